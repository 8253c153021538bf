"""`nsf explore`: checks what it is given, and then becomes the server of the page."""

import os
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from nsf_pipeline.config import load_config
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import require_file

HOST = "127.0.0.1"
"""Only this machine can reach the page."""
APP = Path(__file__).with_name("app.py")


def run(
    results: Path,
    models: Sequence[Path],
    dataset: Path | None,
    config: str,
    port: int,
    browser: bool,
) -> NoReturn:
    """Serve the page until the server is stopped; this process becomes the server's.

    Args:
        results: the folder of a run's results.
        models: further models.
        dataset: the data set, if it is not the one in `results`.
        config: settings, a YAML file or JSON; empty for none.
        port: where the page is served.
        browser: whether to open it.

    Raises:
        UserError: one line: marimo is not installed, a file or folder is not what it should be, or
            the port is in use.
    """
    if find_spec("marimo") is None:
        raise UserError(
            "nsf explore needs marimo, which is not installed: `make setup EXTRA=explore` in the "
            "checkout installs it, `pip install marimo` elsewhere"
        )
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; --results names the folder of a run's results")
    if config:
        load_config(config)
    if dataset:
        require_file(dataset)
    _require_free(port)
    if models:
        from nsf_pipeline.model.file import model_header  # imports JAX, which takes seconds

        for path in models:
            model_header(path)
    own = ["--results", results, *(["--dataset", dataset] if dataset else [])]
    own += [part for path in models for part in ("--model", path)]
    own += ["--config", config] if config else []
    # With a token, other users of this machine cannot open the page; marimo prints and opens the
    # address with it.
    server = ["run", APP, "--host", HOST, "--port", port, "--token", "--no-sandbox"]
    server += [] if browser else ["--headless"]
    command = [sys.executable, "-m", "marimo", *server, "--", *own]
    os.environ.pop("PYTHONHASHSEED", None)  # the token is a hash; with a known seed all know it
    os.environ["MARIMO_SKIP_UPDATE_CHECK"] = "1"  # nothing leaves this machine
    os.execv(sys.executable, [str(part) for part in command])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"--port {port}: cannot serve there: {error.strerror}; name another port"
            ) from None
