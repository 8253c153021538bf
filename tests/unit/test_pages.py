"""Pages of the report, as files."""

import json
from hashlib import sha256

import pytest

from nsf_pipeline import label
from nsf_pipeline.config import Config, WandbConfig
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES, pages
from nsf_pipeline.why import fields_of

NASTY = Config(wandb=WandbConfig(project="<b>--><b>&"))


def test_a_page_says_what_made_it_and_a_truncated_one_is_damaged(tmp_path):
    page = tmp_path / "settings.html"
    pages.settings(NASTY, page)
    assert Record.read(fields_of(page)) == Record.new(STAGES["settings_page"], NASTY)
    page.write_bytes(page.read_bytes()[:-2000])
    with pytest.raises(label.LabelError, match="truncated or damaged"):
        fields_of(page)


def test_settings_cannot_break_out_of_their_page(tmp_path):
    pages.settings(NASTY, tmp_path / "settings.html")
    text = (tmp_path / "settings.html").read_text()
    assert "<b>" not in text
    assert text.count("-->") == 1
    assert text.rstrip().endswith("-->")
    assert "&lt;b&gt;--&gt;&lt;b&gt;&amp;" in text


@pytest.fixture
def tables(tmp_path):
    """Two tables, and what made them."""
    for name, number in [("first", 1.5), ("second", 2.5)]:
        (tmp_path / f"{name}.md").write_text(
            f"# {name}\n\n| a | b |\n| --- | ---: |\n| **x** | {number} |\n"
        )
    made = Record.new(STAGES["evaluate"], Config()).fields()
    sources = [tmp_path / "first.md", tmp_path / "second.md"]
    made["files"] = {path.name: sha256(path.read_bytes()).hexdigest() for path in sources}
    (tmp_path / "provenance.json").write_text(json.dumps(made))
    return {"sources": sources, "provenance": 2 * [tmp_path / "provenance.json"]}


def test_tables_stand_one_under_the_other(tables, tmp_path):
    pages.tables(Config(), **tables, output=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<table>") == 2
    assert text.index("<h1>first</h1>") < text.index("1.5</td>") < text.index("<h1>second</h1>")
    assert "<strong>x</strong>" in text
    made = Record.read(fields_of(tmp_path / "page.html"))
    assert made.settings == STAGES["evaluate"].settings(Config())


def test_tables_of_other_settings_are_refused(tables, tmp_path):
    with pytest.raises(FileError, match=r"provenance\.json: seed was 0, is 1; if the workflow"):
        pages.tables(Config(seed=1), **tables, output=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_altered_tables_are_refused(tables, tmp_path):
    with (tmp_path / "second.md").open("a") as file:
        file.write("| y | 99.99 |\n")
    with pytest.raises(FileError, match=r"second\.md: not what .* says was written"):
        pages.tables(Config(), **tables, output=tmp_path / "page.html")
