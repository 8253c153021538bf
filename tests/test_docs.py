"""The docs agree with the code."""

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from nsf_pipeline.data.store import SCHEMAS
from nsf_pipeline.evaluation import consistency, open_loop, scaling, tables
from nsf_pipeline.training import METRICS

ROOT = Path(__file__).parent.parent
FORMATS = (ROOT / "docs" / "formats.md").read_text()
ASKED_FOR = {"ablations", "scaling", "planning", "export"}
"""Rules that make nothing themselves."""
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md"),
    *("nsf_pipeline/model/README.md", "examples/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


def test_array_tables_are_those_of_the_schemas():
    with_tables = runpy.run_path(str(ROOT / "docs" / "array_tables.py"))["with_tables"]
    assert with_tables(FORMATS) == FORMATS, "run `python docs/array_tables.py`"
    for kind, schema in SCHEMAS.items():
        start = FORMATS.rindex("## `results/", 0, FORMATS.index(f"<!-- arrays: {kind} -->"))
        section = FORMATS[start : FORMATS.index("\n## ", start + 1)]
        assert section.count("\n| `") == len(schema)


@pytest.mark.parametrize(
    ("file", "columns"),
    {
        "training/metrics": METRICS,
        "evaluation/horizons": (*tables.PLACE, "n_states"),
        "evaluation/intervals": tables.INTERVALS,
        "evaluation/distances": (*tables.PLACE, "n_states"),
        "evaluation/calibration": tables.CALIBRATION,
        "evaluation/consistency": consistency.COLUMNS,
        "evaluation/open_loop": open_loop.COLUMNS,
        "scaling/scaling": scaling.COLUMNS,
    }.items(),
)
def test_formats_lists_every_column(file, columns):
    """Except the columns of metrics, which `horizons.md` explains."""
    start = FORMATS.index(f"## `results/{file}.csv`")
    section = FORMATS[start : FORMATS.index("\n## ", start + 1)]
    for column in columns:
        assert f"`{column}`" in section, f"docs/formats.md lacks, under {file}.csv: {column}"


def text_of(page):
    return (ROOT / page).read_text()


def anchors_of(page):
    """What links can lead to: headings as GitHub and MkDocs name them, and marks in the text."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", name).strip().lower().replace(" ", "-") for name in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" in target:
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors_of(path), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_that_exist(page):
    for path in re.findall(
        r"`((?:nsf_pipeline|tests|docs|benchmarks|workflow)/[^`{*]+)`", text_of(page)
    ):
        if "NAME" not in path:
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), f"{page} names {path}"


def test_pictures_are_in_step():
    drawing = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
    for name, picture in drawing["pictures"]().items():
        assert (ROOT / "docs" / name).read_text() == picture, "run `python docs/pictures.py`"
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    named = re.findall(r"^(?:rule|use rule \w+ as) (\w+)(?:| with):$", rules, re.MULTILINE)
    # The second round repeats the chain, so it is not drawn.
    once = {name for name in named if not name.startswith("second_")}
    assert set(drawing["CHAIN"]) == once - ASKED_FOR, "draw each rule in docs/pictures.py"


def test_architecture_describes_every_room():
    text = text_of("docs/architecture.md")
    drawing = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
    for room in drawing["floors"]():
        assert f"`{room}`" in text, f"docs/architecture.md lacks the room {room}"


def messages():
    """Every text in the code; formatted texts come in pieces, which … separates in the docs."""
    for path in (ROOT / "nsf_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for name in ("Makefile", "Snakefile", "workflow/rules/common.smk"):
        yield (ROOT / name).read_text()


def test_troubleshooting_quotes_messages_of_the_code():
    known = "\n".join(messages())
    quoted = re.findall(r"```text\n(.*?)```", text_of("docs/troubleshooting.md"), re.DOTALL)
    assert len(quoted) > 20
    for message in quoted:
        for piece in re.split("…|; (?=if the workflow)", message.strip()):
            assert piece in known, f"docs/troubleshooting.md quotes {piece!r}, which nothing says"


@pytest.mark.parametrize("page", ["README.md", "nsf_pipeline/model/README.md"])
def test_readme_example_runs(page, smoke, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    monkeypatch.chdir(smoke.folder)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["draws"].shape == (64, 7)
    assert names["log_density"].shape == ()
    assert names["path"].shape[1:] == (7,)


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_trial_ends_as_the_page_says(page, smoke):
    (end,) = re.findall(r"^    (\d+ of \d+ steps \(100%\) done)$", text_of(page), re.MULTILINE)
    first = min((smoke.folder / ".snakemake" / "log").glob("*.log"))
    assert end in first.read_text()


def test_readme_has_no_blank_left_to_fill():
    assert not re.search(r"@[A-Z]+@", (ROOT / "README.md").read_text())
