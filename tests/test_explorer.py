"""The explorer, opened in a real browser and used as a person would, by the keyboard."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from urllib.parse import urlsplit

import jax
import pytest
from conftest import ROOT, flip, run, surroundings
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from nsf_pipeline.cli import main
from nsf_pipeline.config import BridgeConfig, DMPConfig, ModelConfig, NetworkConfig
from nsf_pipeline.config.policy_file import parse_policy
from nsf_pipeline.explorer import command, controls
from nsf_pipeline.model import Normaliser, build_model, save_model

PATIENCE = 120
"""s that a busy machine gets to show what was asked for."""
TINY = NetworkConfig(hidden_size=4, depth=1, num_flow_layers=2)
# The controls that can be seen, by the words beside or on them.
CONTROLS = """
const found = [];
const look = root => {
  for (const each of root.querySelectorAll('*')) {
    if (each.shadowRoot) look(each.shadowRoot);
    const kinds = '[role=slider], [role=checkbox], select, input, button, a[download]';
    // A file is chosen by a button; what it fills in cannot be seen.
    if (!each.matches(kinds) || each.type === 'file') continue;
    if (!each.getClientRects().length || each.closest('[aria-hidden=true]')) continue;
    const of = root.getElementById && each.getAttribute('aria-labelledby');
    const label = (of && root.getElementById(of))
      || (root.host && root.querySelector('label')) || each;
    const words = label.textContent.trim() || each.getAttribute('aria-label') || '';
    found.push([words, each]);
  }
};
look(document);
return found;
"""
FILE_INPUT = """
const look = root => {
  const own = [...root.querySelectorAll('input[type=file]')];
  const inner = [...root.querySelectorAll('*')].filter(each => each.shadowRoot);
  return own.concat(...inner.map(each => look(each.shadowRoot)));
};
return look(document)[0];
"""
FOCUSED = """
let each = document.activeElement;
while (each.shadowRoot && each.shadowRoot.activeElement) each = each.shadowRoot.activeElement;
return each;
"""
TOO_WIDE = """
const wide = [document.scrollingElement, ...document.querySelectorAll('*')];
return wide.filter(each => {
  const scrolls = ['auto', 'scroll'].includes(getComputedStyle(each).overflowX);
  return (each === document.scrollingElement || scrolls) && each.scrollWidth > each.clientWidth + 1;
}).map(each => each.outerHTML.slice(0, 200));
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run's folder with two models, one of them damaged."""
    folder = tmp_path_factory.mktemp("results")
    config = ModelConfig(path_points=2, flow=TINY, bridge=BridgeConfig(hidden_size=4))
    unit = Normaliser(((0.0, 0.0), (500.0, 500.0)), (8.0, 8.0, 60.0, 60.0, 5.0, 5.0, 0.1))
    model = build_model(config, DMPConfig(), unit, key=jax.random.key(0))
    for path in (folder / "model.eqx", folder / "variants/damaged/model.eqx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(path, model, {})
    flip(folder / "variants/damaged/model.eqx")
    return folder


@pytest.fixture(scope="module")
def address(results, tmp_path_factory):
    """Where `nsf explore` serves the page, with the token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("explore") / "log"
    command = ["-m", "nsf_pipeline", "explore", "--no-browser", "--port", port]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, *map(str, command), "--results", results],
            env=surroundings({"HOME": str(log.parent)}),
            stdout=file,
            stderr=file,
        )
    try:
        found = None
        while not found and server.poll() is None:
            found = re.search(r"http://\S+access_token=\S+", log.read_text())
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.1)
        assert found, log.read_text()
        yield found[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0
        assert "Traceback" not in log.read_text()
        assert "raised an exception" not in log.read_text()
    finally:
        server.kill()


class Page:
    """The page as it stands in the browser."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.set_window_size(1280, 1000)
        browser.get(address)
        self.wait(lambda: self.html("scene"))

    def wait(self, condition):
        def met(_):
            self.require_no_error()
            return condition()

        return WebDriverWait(self.browser, PATIENCE, 0.1).until(met)

    def require_no_error(self):
        # What marimo shows for a while when a cell or a button fails.
        assert "An internal error occurred" not in self.text()

    def html(self, name):
        """The drawing of a name; empty if there is none."""
        script = "const d = document.querySelector(arguments[0]); return d ? d.outerHTML : ''"
        return self.browser.execute_script(script, f"svg.nsf-{name}")

    def text(self):
        return self.browser.find_element(By.TAG_NAME, "body").text

    def controls(self):
        return self.browser.execute_script(CONTROLS)

    def control(self, words):
        """The control with some words beside or on it."""
        return self.wait(lambda: next((e for w, e in self.controls() if w == words), None))

    def press(self, words, *keys):
        """Send keys to a control, once it takes them: the page draws its controls anew at times."""

        def sent():
            try:
                self.control(words).send_keys(*keys)
            except (ElementNotInteractableException, StaleElementReferenceException):
                return False
            return True

        self.wait(sent)

    def changes(self, name, words, *keys):
        """Whether a drawing changes when keys are pressed at a control; waits until it does."""
        before = self.html(name)
        self.press(words, *keys)
        return self.wait(lambda: self.html(name) not in ("", before))


@pytest.fixture
def page(browser, address):
    return Page(browser, address)


def test_nobody_without_the_token_sees_the_page(address):
    bare = address.partition("?")[0]
    assert urlsplit(address).hostname in ("localhost", "127.0.0.1")
    with urllib.request.urlopen(bare) as answer:
        assert urlsplit(answer.url).path == "/auth/login"


def test_sliders_redraw_the_policy(page, browser):
    for name in ("scene", "position", "velocity"):
        assert page.changes(name, "goal x (px)", Keys.ARROW_RIGHT)
    assert "to (270, 245)" in page.text()
    assert page.changes("phase", "duration (s)", Keys.ARROW_RIGHT)
    before = page.html("scene")
    page.press("w x 2", *[Keys.ARROW_RIGHT] * 4)
    page.wait(lambda: page.html("scene") != before)
    assert page.changes("scene", "scale the forcing by goal − start", Keys.SPACE)
    assert "A weight of 1 pulls by one unit, 256 px" in page.text()
    for preset in ("curved", "hook round the T", "random", "reset"):
        assert page.changes("scene", preset, Keys.ENTER)


def test_nothing_is_fetched_from_elsewhere(page, browser):
    events = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    fetched = [
        urlsplit(event["params"]["request"]["url"])
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    asked = {each.hostname for each in fetched if each.scheme in ("http", "https", "ws", "wss")}
    assert asked
    assert asked <= {"localhost", "127.0.0.1"}


def test_the_simulator_and_models_answer_to_the_sliders(page):
    page.wait(lambda: page.html("animation") and page.html("prediction"))
    page.press("simulate PushT", Keys.SPACE)
    page.wait(lambda: not page.html("animation"))
    page.wait(lambda: 'data-of="simulator"' not in page.html("prediction"))
    assert 'data-of="model"' in page.html("prediction")
    page.press("simulate PushT", Keys.SPACE)
    page.wait(lambda: page.html("animation") and 'data-of="simulator"' in page.html("prediction"))
    assert re.search(r"simulator [\d.]+ [\d.]+ [\d.]+ [\d.]+\s+model [\d.]+", page.text())
    for name in ("animation", "coverage", "prediction"):
        assert page.changes(name, "block x (px)", Keys.ARROW_RIGHT)
    assert page.changes("animation", "another draw of the noise", Keys.ENTER)
    assert page.changes("prediction", "after (s)", Keys.ARROW_LEFT)
    assert 'data-of="model"' in page.html("prediction")
    page.press("beside it", "d")
    page.wait(lambda: "damaged: its content is not what was saved" in page.text())
    assert 'data-of="model"' in page.html("prediction")
    page.press("scale the forcing by goal − start", Keys.SPACE)
    page.wait(lambda: "trained on DMPs with scale_forcing_by_goal_delta = true" in page.text())
    page.press("scale the forcing by goal − start", Keys.SPACE)
    page.press("beside it", "n")
    page.press("model", "n")
    page.wait(lambda: 'data-of="model"' not in page.html("prediction"))


def test_a_plan_is_drawn_and_can_be_taken_over(page):
    page.press("model", "n")
    page.press("plan from here", Keys.ENTER)
    page.wait(lambda: page.html("plan"))
    assert page.html("plan").count("<polyline") > 10
    page.press("planner", "con")
    page.wait(lambda: not page.html("plan"))
    page.press("plan from here", Keys.ENTER)
    page.wait(lambda: page.html("plan"))
    assert page.changes("scene", "set the sliders to this push", Keys.ENTER)


def test_a_policy_is_saved_and_loaded(page, browser, tmp_path):
    def load(path):
        browser.execute_script(FILE_INPUT).send_keys(str(path))

    bad, good = tmp_path / "bad`<b>.json", tmp_path / "good.json"
    bad.write_text('{"state": [1]}')
    load(bad)
    page.wait(lambda: "bad`<b>.json: not a policy of nsf_pipeline" in page.text())
    assert "save it again in `nsf explore`" in page.text()
    dmp = DMPConfig(scale_forcing_by_goal_delta=False)
    policy = controls.curved(dmp)
    good.write_text(policy.text())
    before = page.html("scene")
    load(good)
    page.wait(lambda: page.html("scene") != before and "bad`<b>.json" not in page.text())
    fetch = "fetch(arguments[0]).then(answer => answer.text()).then(arguments[1])"
    link = page.control("save as JSON").get_attribute("href")
    assert parse_policy(browser.execute_async_script(fetch, link).encode(), "saved") == policy


def test_the_keyboard_reaches_every_control(page, browser):
    wanted = {each.id for _, each in page.controls()}
    assert len(wanted) > 35
    reached = set()
    for _ in range(3 * len(wanted)):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(browser.execute_script(FOCUSED).id)
    missed = [each for _, each in page.controls() if each.id not in reached]
    assert [each.get_attribute("outerHTML") for each in missed] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page, browser, width):
    page.wait(lambda: page.html("animation") and "CRPS" in page.text())
    browser.set_window_size(width, 900)
    page.wait(lambda: browser.execute_script("return innerWidth") == width)
    assert page.wait(lambda: browser.execute_script(TOO_WIDE) == [])


REFUSED = {
    "no folder": (["--results", "{tmp}/none"], "no such folder"),
    "no model": (["--model", "{tmp}/no.eqx"], "no.eqx: not a model of nsf_pipeline"),
    "a model that is missing": (["--model", "{tmp}/none.eqx"], "cannot read it"),
    "no data set": (["--dataset", "{tmp}/none.h5"], "cannot read it"),
    "no settings": (["--config", "{tmp}/none.yaml"], "cannot read the settings"),
    "a port in use": (["--port", "{port}"], "cannot serve there: Address already in use"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_is_one_line(case, tmp_path, capsys):
    arguments, expected = REFUSED[case]
    (tmp_path / "no.eqx").write_text("no model")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        known = {"tmp": tmp_path, "port": taken.getsockname()[1]}
        given = ["--results", str(tmp_path), *(each.format(**known) for each in arguments)]
        assert main(["explore", *given]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_without_marimo_a_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["explore", "--results", str(tmp_path)]) == 1
    assert "`make setup EXTRA=explore`" in capsys.readouterr().err


def test_nobody_can_work_out_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")

    def started(*_):
        raise SystemExit("PYTHONHASHSEED" in command.os.environ)

    monkeypatch.setattr(command.os, "execv", started)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SystemExit) as caught:
        command.run(tmp_path, [], None, "", port, browser=False)
    assert caught.value.code is False


def test_the_page_also_runs_as_a_script(results):
    done = run(sys.executable, ROOT / "nsf_pipeline/explorer/app.py", "--", "--results", results)
    assert done.returncode == 0, done.stderr
    simulator, model = done.stdout.splitlines()
    assert simulator.startswith("simulator: CRPS agent (px) ")
    assert model.startswith("model: CRPS agent (px) ")
