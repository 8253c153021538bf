"""The report, opened in a real browser and clicked through as a person would."""

import base64
import contextlib
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
import yaml
from conftest import SMOKE, SmokeRun, flip
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from nsf_pipeline import why
from nsf_pipeline.config import Config, load_config
from nsf_pipeline.stages import pages

CHANGES = yaml.safe_load(SMOKE.read_text())
PATIENCE = 60
"""s that a busy machine gets to show what was clicked."""
# What must be there, at least, by category.
RESULTS = {
    "Configuration": {"Settings"},
    "Data": {"Picture of the data set"},
    "Evaluation": {
        "Tables",
        "Scores (CSV, to download)",
        "Joint scores (CSV, to download)",
        "Block positions",
        "Calibration",
        "Skill against horizon",
    },
    "Training": {"Curves"},
    "Videos": {"Videos"},
}


@pytest.fixture(scope="module")
def path(smoke, tmp_path_factory):
    report = tmp_path_factory.mktemp("report") / "report.html"
    done = smoke.snakemake("--report", report, cores=())
    assert done.returncode == 0, done.stderr
    return report


class Report:
    """The report as it stands in the browser."""

    def __init__(self, browser, path):
        self.browser, self.path = browser, path

    def wait(self, condition):
        return WebDriverWait(self.browser, PATIENCE, 0.1).until(lambda _: condition())

    def click(self, element):
        """Click when the element stands still: the menu's width changes with its content."""
        where: dict[str, object] = {}

        def at_rest():
            before = where.get("it")
            where["it"] = element.rect
            return before == where["it"]

        self.wait(at_rest)
        element.click()

    def menu(self):
        """Go to the menu, from wherever this is."""
        self.browser.switch_to.default_content()
        if self.browser.current_url.partition("#")[0] != self.path.as_uri():
            self.browser.get(self.path.as_uri())
        for link in self.browser.find_elements(By.LINK_TEXT, "Results"):
            self.click(link)
        self.wait(lambda: self.browser.find_elements(By.LINK_TEXT, "Workflow"))

    def categories(self):
        """Names that the menu lists under its heading for results."""
        self.menu()
        names = [entry.text for entry in self.all("nav ul a")]
        return [name for name in names if name not in ("Workflow", "Statistics", "About")]

    def rows(self, category):
        """The two buttons of each result, by its name, after a click on the category."""
        self.menu()
        self.click(self.browser.find_element(By.LINK_TEXT, category))
        rows = self.wait(lambda: self.all("tbody tr"))
        return {
            row.find_element(By.TAG_NAME, "td").text: row.find_elements(By.TAG_NAME, "a")
            for row in rows
        }

    def page(self, category, name):
        """Click on a category and on a result's eye, and switch to the page that is shown."""
        eye, _ = self.rows(category)[name]
        self.click(eye)
        frame = self.wait(lambda: self.all("iframe"))[0]
        self.browser.switch_to.frame(frame)
        self.wait(lambda: self.all("body > *"))

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def ask(self, expression, element):
        return self.browser.execute_script(f"return arguments[0].{expression}", element)


@pytest.fixture
def report(browser, path):
    for kind in ("performance", "browser"):
        browser.get_log(kind)
    yield Report(browser, path)
    browser.switch_to.default_content()
    # However the test went, nothing was asked of another host, and no script failed.
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    schemes = {urlsplit(params["request"]["url"]).scheme for params in asked}
    assert schemes <= {"file", "data", "blob"}, schemes
    assert asked
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_every_result_has_its_place_and_an_explanation(report):
    assert set(report.categories()) >= RESULTS.keys()
    for category, names in RESULTS.items():
        assert report.rows(category).keys() >= names
    for category in report.categories():
        for name in report.rows(category):
            _, info = report.rows(category)[name]  # anew: the description took the rows' place
            report.click(info)
            text = report.wait(lambda: report.all(".prose-invert"))[0].text
            assert len(text) > 40, name


DECODED = """
const [image, done] = arguments;
image.decode().then(() => done([image.naturalWidth, image.naturalHeight]), done);
"""


def test_every_figure_is_decoded_and_its_top_is_seen(report):
    figures = 0
    for category in report.categories():
        for name, (eye, _) in report.rows(category).items():
            if eye.get_attribute("download"):
                continue
            report.click(eye)
            shown = report.wait(lambda: report.all("iframe, .p-3 > img"))[0]
            if shown.tag_name == "img":
                figures += 1
                width, height = report.browser.execute_async_script(DECODED, shown)
                assert min(width, height) > 200, name
                assert report.ask("getBoundingClientRect().top", shown) >= 0, name
    assert figures >= 3


def test_tables_show_the_numbers_of_the_csv(report, smoke):
    report.page("Evaluation", "Tables")
    assert report.all("h1")
    tables = report.all("table")
    assert tables
    cells = [cell for table in tables for cell in table.find_elements(By.TAG_NAME, "td")]
    # A score may be followed by its ratio to the simulator's.
    numbers = {cell.text.split(" ")[0] for cell in cells}
    table = pd.read_csv(smoke.results / "evaluation/horizons.csv")
    scores = table.loc[(table["model"] == "flow") & (table["contact"] == "all"), "crps"]
    assert len(scores)
    assert {f"{score:.3g}" for score in scores} <= numbers


def test_scores_can_be_downloaded(report, smoke):
    eye, _ = report.rows("Evaluation")["Scores (CSV, to download)"]
    assert eye.get_attribute("download") == "horizons.csv"
    text = report.browser.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0].href).then(r => r.text()).then(done)", eye
    )
    assert text == (smoke.results / "evaluation/horizons.csv").read_text()


def test_settings_are_those_of_the_run(report, smoke):
    report.page("Configuration", "Settings")
    rows = report.all("table tr")[1:]
    cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    values = {name: (value, default) for name, value, default, _ in cells}
    assert values["training.steps"] == (str(CHANGES["training"]["steps"]), "16000")
    assert values["seed"] == ("0", "0")
    bold = [row.find_element(By.TAG_NAME, "td").text for row in report.all("tr.changed")]
    assert set(bold) == {name for name, (value, default) in values.items() if value != default}
    assert "training.steps" in bold
    assert all(meaning or name.startswith("model.bridge") for name, *_, meaning in cells)
    (text,) = report.all("pre")
    assert yaml.safe_load(text.text) == yaml.safe_load(smoke.settings.read_text())


def play(report, video):
    """Start a video by its key, and see it play."""
    report.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", video)
    report.wait(lambda: report.ask("readyState", video) >= 2)  # HAVE_CURRENT_DATA
    assert report.ask("error", video) is None
    assert report.ask("duration", video) > 0.5
    if report.ask("paused", video):
        video.send_keys(Keys.SPACE)
    # How far it has played: a short one may be at its end before this looks.
    report.wait(lambda: report.ask("played.length", video) == 1)
    report.wait(lambda: report.ask("played.end(0)", video) > 0.4)
    assert report.ask("getVideoPlaybackQuality().totalVideoFrames", video) > 2


def test_every_video_plays(report, smoke):
    report.page("Videos", "Videos")
    figures = {
        figure.find_element(By.TAG_NAME, "figcaption").text: figure.find_element(
            By.TAG_NAME, "video"
        )
        for figure in report.all("figure")
    }
    made = (smoke.results / "videos").rglob("*.mp4")
    assert figures.keys() == {str(path.relative_to(smoke.results / "videos")) for path in made}
    widths = set()
    for name, video in figures.items():
        play(report, video)
        widths.add(report.ask("videoWidth", video))
        assert report.ask("videoWidth", video) == (1024 if "predicted" in name else 512)
    assert widths == {512, 1024}


def test_a_video_plays_as_a_file_of_its_own(report, smoke):
    report.browser.get((smoke.results / "videos/best.mp4").as_uri())
    (video,) = report.wait(lambda: report.all("video"))
    play(report, video)


def test_the_report_starts_with_what_it_is_about(report):
    report.browser.get("about:blank")
    report.menu()
    text = report.wait(lambda: report.all(".prose"))[0].text
    assert "conditional Neural Stochastic Flow" in text
    assert "Everything in this report is current" in text


# What is done to a finished run, and how the front page names it.
SPOILED = {
    "a truncated video": (
        lambda results: cut(results / "videos/best.mp4"),
        "results/videos/best.mp4: truncated or damaged",
    ),
    "a lost ensemble": (
        lambda results: (results / "ensembles/00001.h5").unlink(),
        "results/ensembles/00001.h5: it is missing",
    ),
    "a truncated data set": (
        lambda results: cut(results / "dataset.h5"),
        "results/dataset.h5: truncated or damaged",
    ),
    "an altered table": (
        lambda results: flip(results / "evaluation/intervals.csv"),
        "results/evaluation/intervals.csv is damaged: it does not match its checksum",
    ),
    "curves without a label": (
        lambda results: cut(results / "training/curves.png"),
        "results/training/curves.png: truncated or damaged",
    ),
    "settings of another run": (
        lambda results: pages.settings(Config(seed=7), results / "report/settings.html"),
        "seed was 7, is 0",
    ),
    "a page of nothing": (
        lambda results: (results / "report/tables.html").write_text("<p>`*|x|_ <b>"),
        "results/report/tables.html: ",
    ),
}


def cut(path):
    """Take a file's last bytes away."""
    path.write_bytes(path.read_bytes()[:-200])


@pytest.fixture(scope="module")
def spoiled(smoke, tmp_path_factory):
    """The report of a run in which much is spoiled."""
    run = SmokeRun(tmp_path_factory.mktemp("spoiled") / "run", smoke.settings, "")
    shutil.copytree(smoke.folder, run.folder)
    for spoil, _ in SPOILED.values():
        spoil(run.results)
    report = run.folder / "report.html"
    done = run.snakemake("--report", report, cores=())
    assert done.returncode == 0, done.stderr
    return report


def test_the_report_says_what_in_it_is_not_current(browser, spoiled):
    report = Report(browser, spoiled)
    report.menu()
    (front,) = report.wait(lambda: report.all(".prose"))
    assert "Not everything in this report is current." in front.text
    # However long the list is, the page starts at its top.
    assert report.ask("getBoundingClientRect().top", front) >= 0
    lines = [report.ask("textContent", item) for item in report.all(".prose li")]
    for name, (_, expected) in SPOILED.items():
        assert sum(expected in line for line in lines) == 1, name
    assert len(lines) == len(SPOILED)


def test_old_beside_new_is_named(smoke, tmp_path):
    """After the settings changed, all that they shaped is old, whatever else was made anew."""
    files = [*map(Path, ("results/training/metrics.csv", "results/report/settings.html"))]
    with contextlib.chdir(smoke.folder):
        config = load_config(smoke.settings)
        files += [path for path in why.made_in(Path("results")) if path not in files]
        assert why.out_of_date(config, files) == []
        steps = config.training.steps
        changed = config.model_copy(
            update={"training": config.training.model_copy(update={"steps": steps + 1})}
        )
        lines = "\n".join(why.out_of_date(changed, [*files, Path("results/none.h5")]))
    reason = f"training.steps was {steps}, is {steps + 1}"
    old = {line.partition(":")[0] for line in lines.splitlines() if reason in line}
    for name in ("results/model.eqx", "results/evaluation/provenance.json"):
        assert name in old
    assert "settings.html" in lines
    assert "policies" not in lines
    assert "results/none.h5: it is missing" in lines


def test_the_report_holds_each_file_and_names_none_of_this_machine(path, smoke):
    text = path.read_text()
    for name in ("dataset.png", "curves.png", "horizons.csv", "block_positions.png"):
        assert name in text
    for page in (smoke.results / "report").glob("*.html"):
        assert base64.b64encode(page.read_bytes()).decode() in text
    assert str(smoke.folder) not in text
