"""The checkout, the run's folder and another workflow around this one may lie anywhere."""

import shutil

import pytest
from conftest import ROOT, mostly_thorough, run_snakemake

PAGE = "results/report/settings.html"
NAMES = {
    "braces, quotes, blanks and others": (
        ' a{x}b{{y}}{config}{ it\'s "so" `id` %(x)s\ta\nb é☃\u202e中'
    ),
    "what shells and globs take": "a; b & c | d > e $HOME $(id) ~ \\ # *?[1]!",
    "a dash": "-n",
    "a home": "~",
}


def copy_checkout(folder):
    for name in ("nsf_pipeline", "workflow", "envs", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder / name)


@pytest.mark.parametrize("case", mostly_thorough(NAMES, "braces, quotes, blanks and others"))
def test_any_name_will_do_for_the_checkout_and_the_run(case, tmp_path):
    checkout, run = (tmp_path / place / NAMES[case] for place in ("code", "runs"))
    copy_checkout(checkout)
    settings = run / "settings.yaml"
    run.mkdir(parents=True)
    settings.write_text("seed: 7\n")
    done = run_snakemake(run, PAGE, "--configfile", settings, snakefile=checkout / "Snakefile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed: 7" in (run / PAGE).read_text()


def test_a_colon_in_the_checkouts_path_is_one_line(tmp_path):
    """It parts the folders that Python searches, so jobs would run another copy of the package."""
    checkout = tmp_path / "a:b"
    copy_checkout(checkout)
    line = refusal(run_snakemake(tmp_path, "-n", PAGE, snakefile=checkout / "Snakefile"))
    assert line == f"{checkout}: Python imports nothing from a path with ':'; rename the folder"


def test_a_checkout_with_a_missing_file_is_one_line(tmp_path):
    copy_checkout(tmp_path / "code")
    (tmp_path / "code/nsf_pipeline/config/root.py").unlink()
    snakefile = tmp_path / "code/Snakefile"
    line = refusal(run_snakemake(tmp_path, "-n", PAGE, snakefile=snakefile))
    assert "No module named 'nsf_pipeline.config.root'; install what it needs" in line


def refusal(done):
    """The one line that a run was refused with, besides what Snakemake says of its profile."""
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "workflow specific profile" not in line]
    assert len(lines) == 1
    assert "Traceback" not in done.stdout
    return lines[0]


# As modules of another workflow. Each case: its Snakefile, its target, and the seed of the run.
MODULE = "module nsf:\n    snakefile: {snakefile!r}\n"
MODULES = {
    "without config": (f"{MODULE}use rule * from nsf\n", PAGE, 0),
    "with some of the settings": (
        f"{MODULE}    config: dict(seed=8)\nuse rule * from nsf\n",
        PAGE,
        8,
    ),
    "with a prefix": (
        f"{MODULE}    prefix: 'below'\nuse rule * from nsf as nsf_*\n",
        f"below/{PAGE}",
        0,
    ),
    "one rule": (f"{MODULE}use rule settings_page from nsf\n", PAGE, 0),
    "below a rule of its own": (
        f"{MODULE}use rule * from nsf\n"
        f"rule mine:\n    input: rules.settings_page.output\n    output: {PAGE + '2'!r}\n"
        "    shell: 'cp {input} {output}'\n",
        f"{PAGE}2",
        0,
    ),
}


@pytest.fixture
def outer(tmp_path):
    """A folder for another workflow, with a package of the same name and settings of its own."""
    folder = tmp_path / "outer"
    for place in (folder, tmp_path):
        (place / "nsf_pipeline").mkdir(parents=True)
        (place / "nsf_pipeline/__init__.py").write_text("raise RuntimeError('another copy')\n")
        (place / "config.yaml").write_text("of_another_workflow: true\n")
    return folder


@pytest.mark.parametrize(
    "case", mostly_thorough(MODULES, "with some of the settings", "below a rule of its own")
)
def test_as_a_module_it_is_this_checkout_with_its_settings(case, outer, tmp_path):
    text, target, seed = MODULES[case]
    (outer / "Snakefile").write_text(text.replace("{snakefile!r}", repr(str(ROOT / "Snakefile"))))
    # The other copy is importable too, for the workflow and for its jobs.
    done = run_snakemake(tmp_path, target, snakefile=outer / "Snakefile", PYTHONPATH=str(outer))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed: {seed}" in (tmp_path / target).read_text()


def test_all_of_the_chain_is_there_as_a_module_with_a_prefix(outer, tmp_path):
    text = MODULES["with a prefix"][0]
    (outer / "Snakefile").write_text(text.replace("{snakefile!r}", repr(str(ROOT / "Snakefile"))))
    targets = ["below/results/ablations/speed.csv", "below/results/report/videos.html"]
    done = run_snakemake(tmp_path, "-n", "-p", *targets, snakefile=outer / "Snakefile")
    assert done.returncode == 0, done.stdout + done.stderr
    (compare,) = (line for line in done.stdout.splitlines() if "nsf_pipeline compare" in line)
    paths = [word for word in compare.split() if "results/" in word]
    assert "--variant=neural_sde=below/results/variants/neural_sde/model.eqx" in paths
    assert all("below/results/" in path or "results/stamps/" in path for path in paths)


def test_two_checkouts_in_one_workflow_are_one_line(outer, tmp_path):
    copy_checkout(tmp_path / "code")
    both = "".join(
        f"module {name}:\n    snakefile: {str(folder / 'Snakefile')!r}\n"
        f"use rule * from {name} as {name}_*\n"
        for name, folder in {"a": ROOT, "b": tmp_path / "code"}.items()
    )
    (outer / "Snakefile").write_text(both)
    line = refusal(run_snakemake(tmp_path, "-n", "a_all", snakefile=outer / "Snakefile"))
    assert line.startswith(f"{tmp_path}/code: expected its own nsf_pipeline, got that in {ROOT}")
