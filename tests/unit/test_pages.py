"""Pages of the report, as files."""

import pytest

from nsf_pipeline import label
from nsf_pipeline.config import Config, WandbConfig
from nsf_pipeline.pages import write_settings, write_tables
from nsf_pipeline.provenance import record
from nsf_pipeline.staleness import record_of

NASTY = Config(wandb=WandbConfig(project="<b>--></b>&"))


def test_a_page_says_what_made_it_and_a_truncated_one_is_damaged(tmp_path):
    page = tmp_path / "settings.html"
    write_settings(NASTY, page)
    assert record_of(str(page)) == record("settings_page", NASTY)
    page.write_bytes(page.read_bytes()[:-2000])
    with pytest.raises(label.LabelError, match="truncated or damaged"):
        record_of(str(page))


def test_settings_cannot_break_out_of_their_page(tmp_path):
    write_settings(NASTY, tmp_path / "settings.html")
    text = (tmp_path / "settings.html").read_text()
    assert "<b>" not in text
    assert text.count("-->") == 1
    assert text.rstrip().endswith("-->")
    assert "&lt;b&gt;--&gt;&lt;/b&gt;&amp;" in text


def test_tables_stand_one_under_the_other(tmp_path):
    for name, number in [("first", 1.5), ("second", 2.5)]:
        (tmp_path / f"{name}.md").write_text(
            f"# {name}\n\n| a | b |\n| --- | ---: |\n| **x** | {number} |\n"
        )
    write_tables(Config(), [tmp_path / "first.md", tmp_path / "second.md"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<table>") == 2
    assert text.index("<h1>first</h1>") < text.index("1.5</td>") < text.index("<h1>second</h1>")
    assert "<strong>x</strong>" in text
