"""Logging to Weights & Biases, which can never stop, slow or change a run.

The library wandb runs in a separate process, the logger. It is sent a line of JSON for everything
that is to be logged, through a pipe that is never waited for: a logger that hangs misses lines.
"""

import contextlib
import csv
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from nsf_pipeline.config import WandbConfig
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.signals import ENDING, end_with

Mode = Literal["offline", "online", "disabled"]
RUN_ID = "wandb-run"
"""File that holds the id of a run, beside its checkpoints."""
PATIENCE = 60.0
"""s that the logger gets to finish, once everything has been sent."""
PIPE_BYTES = 1 << 20


def mode_of(config: WandbConfig) -> tuple[Mode, str]:
    """The mode, from `WANDB_MODE` or else the setting; and `WANDB_MODE` if it is no known mode."""
    wanted = os.environ.get("WANDB_MODE", "")
    known: tuple[Mode, ...] = get_args(Mode)
    for mode in known:
        if mode == wanted:
            return mode, ""
    return config.mode, wanted


class WandbRun:
    """A run that is logged to Weights & Biases; its first failure switches the logging off.

    The environment variables `WANDB_MODE` and `WANDB_PROJECT` override the settings. Online
    without a key becomes offline; nothing asks for a login. After an interruption, and in the
    evaluation, the run continues under the same id.

    Attributes:
        mode: offline, online or disabled.
        id: of the run; empty where there is none.
    """

    def __init__(
        self, config: WandbConfig, folder: Path, checkpoints: Path, settings: Mapping[str, Any]
    ):
        """Start the logger.

        Args:
            config: mode and project.
            folder: wandb writes to `folder/wandb`.
            checkpoints: folder that keeps the run's id.
            settings: the run's configuration.
        """
        self._logger: subprocess.Popen[bytes] | None = None
        self._lines: threading.Thread | None = None
        self.id = ""
        self.mode, unknown = mode_of(config)
        if unknown:
            _say(f"unknown WANDB_MODE={unknown}, so the mode is {self.mode}")
        if self.mode == "disabled":
            return
        project = os.environ.get("WANDB_PROJECT") or config.project
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.id = _run_id(checkpoints)
            self._start(project, folder, settings)
        except (FileError, OSError) as error:
            _say(f"switched off: {error}")

    def __enter__(self) -> "WandbRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """After an error, tell the logger, which finishes by itself and is not waited for."""
        if self._logger and kind:
            self._send({"failed": True})
            self._close()

    def log(self, row: Mapping[str, int | float]) -> None:
        """Log one row of metrics, `step` among them."""
        self._send({"row": dict(row)})

    def log_history(self, table: Path) -> None:
        """Log all rows of a CSV with a column `step`, if it exists: those of interrupted runs."""
        self._send({"history": str(table.absolute())})

    def log_table(self, name: str, table: Path) -> None:
        """Log a CSV as a table."""
        self._send({"table": name, "path": str(table.absolute())})

    def log_video(self, name: str, video: Path) -> None:
        """Log a video; the file must stay until `finish` returns."""
        self._send({"video": name, "path": str(video.absolute())})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Close the run; if it is offline, say how to upload it."""
        if self._logger is None:
            return
        self._send({"summary": dict(summary)})
        logger, lines = self._logger, self._lines
        self._close()
        try:
            logger.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            logger.kill()
            logger.wait()
            _say(f"switched off: not finished after {PATIENCE:.0f} s")
        if lines:
            lines.join(1.0)

    def _start(self, project: str, folder: Path, settings: Mapping[str, Any]) -> None:
        about = {"project": project, "mode": self.mode, "dir": str(folder), "id": self.id}
        about["config"] = json.dumps(settings)
        self._logger = subprocess.Popen(
            [sys.executable, "-m", "nsf_pipeline.tracking", json.dumps(about), str(os.getpid())],
            stdin=subprocess.PIPE,
            # Not inherited: whatever reads our output would wait for the logger's end, too.
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._logger.stdin
        os.set_blocking(self._logger.stdin.fileno(), False)
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._logger.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lines = threading.Thread(
            target=_print_lines, args=(self._logger.stdout,), daemon=True
        )
        self._lines.start()

    def _send(self, message: Mapping[str, Any]) -> None:
        # Lines this short are written whole or not at all; the pipe fills up if the logger hangs.
        if self._logger and self._logger.stdin:
            with contextlib.suppress(OSError):
                os.write(self._logger.stdin.fileno(), json.dumps(message).encode() + b"\n")

    def _close(self) -> None:
        if self._logger and self._logger.stdin:
            self._logger.stdin.close()
        self._logger = None


def _run_id(folder: Path) -> str:
    path = folder / RUN_ID
    with contextlib.suppress(OSError, ValueError):
        if found := path.read_text(encoding="utf-8").strip():
            return found
    with replacing(path) as beside:
        beside.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8")  # of two runs at once, both take the last one's


def _print_lines(lines: Any) -> None:
    for line in lines:
        _say(line.decode("utf-8", "replace").rstrip())


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"wandb: {line}", flush=True)


def _run_logger(about: dict[str, Any], parent: int) -> None:
    """The logger's process: log the lines that come until there are no more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # the parent process ends it
    end_with(parent, PATIENCE)  # even if wandb hangs
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # wandb's own prints are dropped
    try:
        for answer in _serve(about):
            print(answer, file=answers, flush=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        key = os.environ.get("WANDB_API_KEY")
        reason = reason.replace(key, "[key]") if key else reason
        with contextlib.suppress(OSError):
            print(f"switched off: {type(error).__name__}: {reason}", file=answers, flush=True)
        os._exit(0)  # without wandb's cleanup, which might hang


def _serve(about: dict[str, Any]) -> Any:
    mode = os.environ["WANDB_MODE"] = about["mode"]  # wandb fails on an unknown one
    import wandb

    if mode == "online" and not wandb.api.api_key:
        yield "no key found, so this run is logged offline"
        mode = "offline"
    run = wandb.init(
        project=about["project"],
        mode=mode,
        dir=about["dir"],
        id=about["id"],
        resume="allow",
        config=json.loads(about["config"]),
        settings=wandb.Settings(silent=True, console="off"),
    )
    exit_code = 0
    for line in sys.stdin:
        message = json.loads(line)
        if "row" in message:
            _log(run, message["row"])
        elif "history" in message and os.path.exists(message["history"]):
            with open(message["history"], newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    _log(run, {name: float(value) for name, value in row.items()})
        elif "table" in message:
            with open(message["path"], newline="", encoding="utf-8") as file:
                names, *rows = csv.reader(file)
            cells: list[Any] = [[_number(text) for text in row] for row in rows]
            run.log({message["table"]: wandb.Table(columns=list(names), data=cells)})
        elif "video" in message:
            run.log({message["video"]: wandb.Video(message["path"], format="mp4")})
        elif "summary" in message:
            run.summary.update(message["summary"])
        elif "failed" in message:
            exit_code = 1
    folder = os.path.dirname(run.dir)  # the run's own folder, which the sync command takes
    run.finish(exit_code=exit_code)
    if mode == "offline":
        yield f"offline; upload with: wandb sync {os.path.relpath(folder)}"


def _log(run: Any, row: dict[str, Any]) -> None:
    run.log(row, step=int(row["step"]))


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


if __name__ == "__main__":
    _run_logger(json.loads(sys.argv[1]), int(sys.argv[2]))
