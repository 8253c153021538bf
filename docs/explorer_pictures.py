"""The pictures of explorer.md: `python docs/explorer_pictures.py` makes them anew.

With `--results`, the folder of a run with a model, it also takes the screenshots; this needs
Chromium and its driver.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from nsf_pipeline.config import DMPConfig
from nsf_pipeline.explorer import controls, pictures, simulated
from nsf_pipeline.pusht.simulator import Simulator

DOCS = Path(__file__).parent
SHOTS = {"explorer.png": (1600, 1960), "explorer_phone.png": (390, 844)}
"""Screenshots, and their width and height in px."""
PORT = 2799
PRESET = """
const before = document.querySelector('svg.nsf-scene').outerHTML;
for (const each of document.querySelectorAll('marimo-button')) {
  const button = each.shadowRoot.querySelector('button');
  if (each.textContent.concat(button.textContent).includes('hook')) button.click();
}
return before;
"""
SCENE = "return document.querySelector('svg.nsf-scene').outerHTML"
COLOURS = 128
"""Of a screenshot, so that its file is small."""


def drawings() -> None:
    """Write the animated drawings of the presets."""
    simulator, dmp = Simulator(), DMPConfig()
    for name in ("straight", "curved", "hook"):
        file = getattr(controls, name)(dmp)
        drawn = pictures.animation(file, simulated.rollout(simulator, file, 0))
        (DOCS / f"explorer_{name}.svg").write_text(drawn + "\n")


def screenshots(results: Path) -> None:
    """Take the screenshots of the page with the hook round the T."""
    explore = ["-m", "nsf_pipeline", "explore", "--no-browser", "--port", str(PORT)]
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *explore, "--results", str(results)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            address = None
            while not address and server.poll() is None:
                time.sleep(0.2)
                log.seek(0)
                address = re.search(r"http://\S+access_token=\S+", log.read())
            if not address:
                log.seek(0)
                sys.exit(f"the page was not served: {log.read()}")
            options = ChromeOptions()
            options.binary_location = shutil.which("chromium") or ""
            for flag in ("--headless=new", "--no-sandbox", f"--user-data-dir={folder}"):
                options.add_argument(flag)
            chrome = Chrome(options, ChromeService(shutil.which("chromedriver")))
            chrome.get(address[0])
            _wait_for(chrome, "svg.nsf-prediction")
            before = chrome.execute_script(PRESET)
            while chrome.execute_script(SCENE) == before:
                time.sleep(0.2)
            time.sleep(5.0)
            for name, (width, height) in SHOTS.items():
                # The window's frame takes some of its height.
                chrome.set_window_size(width, height)
                lost = height - chrome.execute_script("return innerHeight")
                chrome.set_window_size(width, height + lost)
                time.sleep(2.0)
                chrome.save_screenshot(str(DOCS / name))
                picture = (
                    Image.open(DOCS / name)
                    .convert("RGB")
                    .quantize(COLOURS, dither=Image.Dither.NONE)
                )
                picture.save(DOCS / name, optimize=True)
            chrome.quit()
        finally:
            server.terminate()
            server.wait()


def _wait_for(chrome: Chrome, selector: str) -> None:
    while not chrome.execute_script("return document.querySelector(arguments[0])", selector):
        time.sleep(0.2)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    drawings()
    if options.results:
        screenshots(options.results)


if __name__ == "__main__":
    main()
