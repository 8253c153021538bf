"""The docs say what is there."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from nsf_pipeline.data.store import SCHEMAS
from nsf_pipeline.evaluation import consistency, tables
from nsf_pipeline.training import METRICS

ROOT = Path(__file__).parent.parent
FORMATS = (ROOT / "docs" / "formats.md").read_text()
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "results/README.md",
    "docs/benchmarks.md",
    "docs/formats.md",
    "docs/method.md",
    "docs/tuning.md",
]


def test_array_tables_are_those_of_the_schemas():
    with_tables = runpy.run_path(str(ROOT / "docs" / "array_tables.py"))["with_tables"]
    assert with_tables(FORMATS) == FORMATS, "run `python docs/array_tables.py`"
    for kind, schema in SCHEMAS.items():
        start = FORMATS.index(f"## `results/{kind}")
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
    }.items(),
)
def test_formats_lists_every_column(file, columns):
    """But metrics', which `horizons.md` explains."""
    start = FORMATS.index(f"## `results/{file}.csv`")
    section = FORMATS[start : FORMATS.index("\n## ", start + 1)]
    for column in columns:
        assert f"`{column}`" in section, f"docs/formats.md lacks, under {file}.csv: {column}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_readme_example_runs(smoke, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(smoke.folder)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["draws"].shape == (64, 7)
    assert names["log_density"].shape == ()


def test_readme_has_no_blank_left_to_fill():
    assert not re.search(r"@[A-Z]+@", (ROOT / "README.md").read_text())
