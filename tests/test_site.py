"""The documentation site builds without a network, and its pages fetch nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MKDOCS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
# MkDocs, in a process that cannot look up or reach any other machine.
BUILD = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        raise OSError(f"the build asks for the network: {event} {arguments}")
sys.addaudithook(refuse)
from mkdocs.__main__ import cli
cli()
"""
SIGNATURES = {
    "api/model": {"load_model": "path", "PushTModel.sample": "num_samples"},
    "api/flow": {"ConditionalNeuralStochasticFlow": "hidden_size"},
    "api/training": {"fit": "transitions"},
    "api/config": {"load_config": "source", "Config": "num_trajectories"},
    "api/evaluation": {"Metric": "meaning"},
    "api/data": {"Field": "axes"},
    "api/pusht": {"StateLayout": "units"},
}
"""By page, names that it explains, and a parameter or attribute of each."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages_of(nav):
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages_of(value)


PAGES = [page.removesuffix(".md") for page in pages_of(MKDOCS["nav"])]


class _Fetched(HTMLParser):
    """What a browser fetches to show a page; links are followed by people alone."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag != "a":
            self.found += [given[name] for name in ("src", "href", "poster") if given.get(name)]


@pytest.mark.parametrize("page", PAGES)
def test_page_is_built_and_fetches_nothing_from_elsewhere(site, page):
    text = (site / f"{page}.html").read_text("utf-8")
    assert "<article" in text
    assert [address for address in _Fetched(text).found if "//" in address] == []
    assert 'class="mermaid"' not in text  # the theme would fetch what draws it


def test_styles_fetch_nothing_from_elsewhere(site):
    sheets = [*site.rglob("*.css")]
    assert sheets
    for sheet in sheets:
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text("utf-8")), sheet


def test_every_page_is_in_the_navigation(site):
    built = {str(path.relative_to(site).with_suffix("")) for path in site.rglob("*.html")}
    assert built - {"404"} == set(PAGES)


@pytest.mark.parametrize(
    ("page", "name", "part"),
    [(page, *pair) for page, names in SIGNATURES.items() for pair in names.items()],
)
def test_api_page_has_the_signature(site, page, name, part):
    text = (site / f"{page}.html").read_text("utf-8")
    start = re.search(rf'<h\d id="nsf_pipeline\.[a-z_.]*{re.escape(name)}"', text)
    assert start, f"{page}.html does not explain {name}"
    assert part in re.sub("<[^>]*>", "", text[start.start() :])
