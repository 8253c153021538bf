"""Logging to Weights & Biases, which can never stop, slow or change a run.

The library wandb runs in a separate process, the logger. It is sent a line of JSON for everything
that is to be logged, through a pipe that is never waited for: a logger that hangs misses lines.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from nsf_pipeline.config import WandbConfig, project_name
from nsf_pipeline.errors import on_one_line
from nsf_pipeline.files import FileError, open_file, read_file, read_table, replacing
from nsf_pipeline.system.printing import make_streams_safe, say
from nsf_pipeline.system.signals import ENDING, end_with

Mode = Literal["offline", "online", "disabled"]
RUN_ID = "wandb-run"
"""File that holds the id of a run, beside its checkpoints."""
MAX_ID = 64
"""Bytes of an id, at most."""
PATIENCE = 60.0
"""s that the logger gets to finish, once everything has been sent."""
PIPE_BYTES = 1 << 20
MAX_LINE = 2000
"""Characters of a printed line, at most."""


def mode_of(config: WandbConfig) -> tuple[Mode, str]:
    """The mode, from `WANDB_MODE` or else the setting; and `WANDB_MODE` if it is no known mode."""
    wanted = os.environ.get("WANDB_MODE", "")
    known: tuple[Mode, ...] = get_args(Mode)
    for mode in known:
        if mode == wanted:
            return mode, ""
    return config.mode, wanted


def project_of(config: WandbConfig) -> tuple[str, str]:
    """The project, from `WANDB_PROJECT` or else the setting; and what is wrong with the former."""
    wanted = os.environ.get("WANDB_PROJECT", "")
    try:
        return (project_name(wanted) if wanted else config.project), ""
    except ValueError as error:
        return config.project, f"WANDB_PROJECT: {error}"


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
        project, wrong = project_of(config)
        if wrong:
            _say(f"{wrong}; the project is {project}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.id = _run_id(checkpoints)
            self._start(project, folder, settings)
        except Exception as error:
            self._logger = None
            _say(f"switched off: {on_one_line(error, MAX_LINE)}")

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
        else:
            if logger.returncode:  # it ends with 0 after an error of its own, which it reports
                _say(f"switched off: the logger's process ended with {logger.returncode}")
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
            with contextlib.suppress(OSError, TypeError, ValueError):
                os.write(self._logger.stdin.fileno(), json.dumps(message).encode() + b"\n")

    def _close(self) -> None:
        if self._logger and self._logger.stdin:
            with contextlib.suppress(OSError):
                self._logger.stdin.close()
        self._logger = None


def history_in(table: Path | str) -> list[dict[str, float]]:
    """The rows of a CSV of numbers with a column `step`.

    Raises:
        FileError: it cannot be read or is something else.
    """
    what = "a history of training"
    names, rows = read_table(table, what)
    try:
        found = [dict(zip(names, map(float, row), strict=True)) for row in rows]
        steps = [int(row["step"]) for row in found]
    except (KeyError, OverflowError, ValueError):
        steps = [-1]
    if "step" not in names or min(steps, default=0) < 0:
        raise FileError(f"{table}: not {what}: expected numbers and among them the step")
    return found


def _run_id(folder: Path) -> str:
    """The id in a run's folder; one that is none is replaced."""
    path = folder / RUN_ID
    if found := _known_id(path):
        return found
    with replacing(path, anything=True) as beside:
        beside.write_text(fresh := secrets.token_hex(4), encoding="utf-8")
    return _known_id(path) or fresh  # of two runs at once, both take the last one's


def _known_id(path: Path) -> str:
    """The id in a file; empty if there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = read_file(path, MAX_ID).decode("ascii").strip()
        if re.fullmatch(r"[\w-]+", found):
            return found
    return ""


def _print_lines(lines: Any) -> None:
    for line in lines:
        _say(line.decode("utf-8", "replace").rstrip())


def _say(line: str) -> None:
    say(f"wandb: {on_one_line(line, MAX_LINE)}")


def _run_logger(about: dict[str, Any], parent: int) -> None:
    """The logger's process: log the lines that come until there are no more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # the parent process ends it
    end_with(parent, PATIENCE)  # even if wandb hangs
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # wandb's own prints are dropped

    def answer(line: str) -> None:
        with contextlib.suppress(OSError):
            answers.write(f"{line}\n".encode("utf-8", "backslashreplace"))

    try:
        for line in _serve(about):
            answer(line)
    except BaseException as error:  # wandb may also call `sys.exit`
        reason = on_one_line(error, MAX_LINE)
        key = os.environ.get("WANDB_API_KEY")
        reason = reason.replace(key, "[key]") if key else reason
        answer(f"switched off: {type(error).__name__}: {reason}")
        os._exit(0)  # without wandb's cleanup, which might hang


def _serve(about: dict[str, Any]) -> Any:
    # wandb fails on an unknown mode or project, also if it is given another.
    mode = os.environ["WANDB_MODE"] = about["mode"]
    os.environ["WANDB_PROJECT"] = about["project"]
    # Tables wait for their upload here, not in the home folder, which a node of a cluster may lack.
    for name in ("DATA", "CACHE"):
        place = os.path.abspath(os.path.join(about["dir"], "wandb", name.lower()))
        os.environ.setdefault(f"WANDB_{name}_DIR", place)
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
        elif "summary" in message:
            run.summary.update(message["summary"])
        elif "failed" in message:
            exit_code = 1
        else:
            try:
                _log_file(run, wandb, message)
            except (FileError, OSError) as error:
                yield f"left out: {error}"
    folder = os.path.dirname(run.dir)  # the run's own folder, which the sync command takes
    run.finish(exit_code=exit_code)
    if mode == "offline":
        yield f"offline; upload with: wandb sync {os.path.relpath(folder)}"


def _log_file(run: Any, wandb: Any, message: Mapping[str, str]) -> None:
    """Log what a file holds: a history, a table or a video."""
    if "history" in message:
        if os.path.exists(message["history"]):
            for row in history_in(message["history"]):
                _log(run, row)
    elif "table" in message:
        names, rows = read_table(message["path"])
        cells = [[_number(cell) for cell in row] for row in rows]
        run.log({message["table"]: wandb.Table(columns=names, data=cells)})
    elif "video" in message:
        open_file(message["path"]).close()
        run.log({message["video"]: wandb.Video(message["path"], format="mp4")})


def _log(run: Any, row: dict[str, Any]) -> None:
    run.log(row, step=int(row["step"]))


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


if __name__ == "__main__":
    make_streams_safe()
    _run_logger(json.loads(sys.argv[1]), int(sys.argv[2]))
