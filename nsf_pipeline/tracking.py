"""Weights & Biases, as a guest: nothing that it does can stop or change a run."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from nsf_pipeline.config import WandbConfig

Mode = Literal["offline", "online", "disabled"]


class WandbRun:
    """A run that is logged where it can be; after its first failure it stays silent.

    `WANDB_MODE` and `WANDB_PROJECT`, where set, win over the configuration. Online without a key
    becomes offline: a login is never asked for.
    """

    def __init__(self, config: WandbConfig, folder: Path, settings: dict[str, Any]):
        self._run: Any = None
        wanted = os.environ.get("WANDB_MODE")
        self.mode: Mode = config.mode
        if wanted in get_args(Mode):
            self.mode = wanted  # type: ignore[assignment]
        elif wanted:
            print(f"wandb: unknown WANDB_MODE={wanted}, so the mode is {self.mode}", flush=True)
        project = os.environ.get("WANDB_PROJECT") or config.project
        if self.mode != "disabled":
            self._guarded(lambda: self._start(project, folder, settings))

    def log(self, row: Mapping[str, int | float], step: int) -> None:
        """Log one row of metrics."""
        if self._run is not None:
            self._guarded(lambda: self._run.log(row, step=step))

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the run, and say how to upload it where that is still to be done."""
        if self._run is None:
            return
        run, self._run = self._run, None

        def close() -> None:
            run.summary.update(summary)
            run.finish()
            if self.mode == "offline":
                # The run's own folder, as the sync command wants it.
                print(f"wandb: offline; upload with: wandb sync {Path(run.dir).parent}", flush=True)

        self._guarded(close)

    def _start(self, project: str, folder: Path, settings: dict[str, Any]) -> None:
        import wandb

        if self.mode == "online" and not wandb.api.api_key:
            print("wandb: no key found, so this run is logged offline", flush=True)
            self.mode = "offline"
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project,
            mode=self.mode,
            dir=folder,
            config=settings,
            settings=wandb.Settings(silent=True),
        )

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._run = None
            reason = " ".join(str(error).split())
            print(f"wandb: switched off: {type(error).__name__}: {reason}", flush=True)
