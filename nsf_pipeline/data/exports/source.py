"""What an export reads: chosen trajectories of a data set, in physical units, a few at a time.

Where a format needs more than the data set holds, the trajectories are simulated again from their
stored actions, in several processes, and compared with what is stored.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline.config import ExportConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.data.scenes import FACTORS
from nsf_pipeline.data.states import join_state
from nsf_pipeline.data.statistics import SPLITS, Statistics, block_moved
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.recorder import Recorder, Recording
from nsf_pipeline.pusht.simulator import observations
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.system.printing import say
from nsf_pipeline.system.processes import processes

Arrays = dict[str, np.ndarray]
Start = tuple[Arrays, np.ndarray]
"""How a trajectory starts, as `rollouts.start` takes it, and its actions (T, 2) px."""
Replays = Callable[[list[list[Start]]], list[list[Recording]]]
"""Simulates lists of trajectories, maybe side by side; returns them in order."""
STARTS = ("seed", "initial_state", "from_reset")
TRAJECTORY = (*STARTS, "trajectory", "action_noise_std", "condition", "length", "success")
ON_STATES = ("observations", "agent_velocity", "block_angle")
ON_ACTIONS = ("actions", "rewards", "coverage")
MOVED = ("observations", "block_angle", "action_mask")
SENT = 1 << 23
"""Bytes of frames, about, that a process sends back at once."""
PER_PROCESS = 2
"""Calls that wait for each process."""
EVERY = 10.0
"""s between two lines that say how far an export is."""


class Episode(NamedTuple):
    """One trajectory of T steps, without padding.

    Attributes:
        number: in the export, from 0.
        trajectory: index in the whole data set.
        split: train, validation or test.
        seed: of `env.reset`.
        from_reset: it starts as the reset gives it; otherwise the state was entered.
        initial_state: (7,) float64, as `STATE`.
        action_noise_std: px.
        condition: (C,) float64, the packed DMP vector.
        success: coverage exceeded the threshold.
        observations: (T + 1, 5) float32, of gym-pusht.
        agent_velocity: (T + 1, 2) float32 px/s.
        block_angle: (T + 1,) float32 rad, continuous.
        actions: (T, 2) float32 px, absolute targets.
        rewards: (T,) float32.
        coverage: (T,) float32.
        replay: the trajectory simulated again; none if nothing asked for it.
    """

    number: int
    trajectory: int
    split: str
    seed: int
    from_reset: bool
    initial_state: np.ndarray
    action_noise_std: float
    condition: np.ndarray
    success: bool
    observations: np.ndarray
    agent_velocity: np.ndarray
    block_angle: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    coverage: np.ndarray
    replay: Recording | None

    @property
    def length(self) -> int:
        """T, the number of steps."""
        return len(self.actions)

    @property
    def states(self) -> np.ndarray:
        """(T + 1, 7) float32, as `STATE`, with the continuous angle."""
        return join_state({name: getattr(self, name) for name in ON_STATES}, STATE)

    @property
    def recording(self) -> Recording:
        """The replay, which the format asked for."""
        if self.replay is None:
            raise ValueError("this format does not replay")
        return self.replay


class Source:
    """Chosen trajectories of an open data set.

    Attributes:
        frames: px; width and height of the frames; 0: none.
        lengths: (n) steps of each chosen trajectory, in the order of the export.
        splits: by split, the first of its trajectories in the export, and one past the last.
    """

    def __init__(
        self, path: Path, file: Any, chosen: ExportConfig, run: Replays | None, jobs: int
    ) -> None:
        """Choose trajectories; `chosen_from` does so too and starts the processes.

        Args:
            path: the data set.
            file: the same, open, from `store.reading`.
            chosen: which trajectories, and the size of their frames.
            run: simulates them again; None not to.
            jobs: in how many processes it does so.

        Raises:
            UserError: no trajectory is left.
        """
        self.path, self.frames = path, chosen.frames
        self._file, self._run, self._jobs = file, run, jobs
        split, kept = file["split"][...], _kept(file, chosen)
        self._rows = {
            name: np.flatnonzero(kept & (split == SPLITS.index(name))) for name in chosen.splits
        }
        rows = np.concatenate(list(self._rows.values()))
        if not len(rows):
            only = [name for name in ("successes_only", "contact_only") if getattr(chosen, name)]
            raise UserError(
                f"{path}: expected at least one trajectory to export, found none in "
                f"{', '.join([*chosen.splits, *only])}; choose more"
            )
        self.lengths = file["length"][...][rows].astype(int)
        stops = list(itertools.accumulate(len(each) for each in self._rows.values()))
        starts = [0, *stops[:-1]]
        self.splits = {
            name: span
            for name, *span in zip(self._rows, starts, stops, strict=True)
            if span[0] < span[1]
        }

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Steps of all chosen trajectories."""
        return int(self.lengths.sum())

    @property
    def longest(self) -> int:
        """T, to which the data set pads."""
        return int(self._file["actions"].shape[1])

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an array of the chosen trajectories, padded."""
        return (len(self), *self._file[name].shape[1:])

    def blocks(self, *names: str) -> Iterator[Arrays]:
        """Arrays of the chosen trajectories, padded as in a rollout shard, a block at a time.

        Raises:
            StoreError: a file cannot be read.
        """
        for _, rows, among in self._places():
            yield self._read(names, rows, among)

    def statistics(self) -> dict[str, Any]:
        """Bounds and statistics of the chosen trajectories, as `dataset.meta.json` has them."""
        total = Statistics()
        for block in self.blocks(*store.ROLLOUTS):
            # As if all were in the train split, whose bounds these are.
            total += Statistics.of(block, np.zeros(len(block["length"]), int))
        counts = {name: stop - first for name, (first, stop) in self.splits.items()}
        return total.metadata() | {"splits": dict.fromkeys(SPLITS, 0) | counts}

    def episodes(self) -> Iterator[Episode]:
        """The chosen trajectories one after the other, with lines that say how far it is.

        Raises:
            StoreError: a file cannot be read.
            UserError: a trajectory does not replay to the bit, or a process was killed.
        """
        progress = _Progress(len(self))
        waiting = self._stored()
        while batch := list(itertools.islice(waiting, self._at_once)):
            for episode in self._replayed(batch, self._run) if self._run else batch:
                yield episode
                progress.past(episode.number)

    @cached_property
    def _per_call(self) -> int:
        """Trajectories that a process replays before it sends them back."""
        return max(1, min(32, SENT // max(1, 3 * self.frames**2 * (self.longest + 1))))

    @property
    def _at_once(self) -> int:
        return self._jobs * PER_PROCESS * self._per_call

    def _places(self) -> Iterator[tuple[str, slice, np.ndarray]]:
        """For each block with chosen trajectories: their split, its rows, and which of these."""
        for split, chosen in self._rows.items():
            for rows in store.blocks(len(self._file["trajectory"])):
                among = chosen[
                    np.searchsorted(chosen, rows.start) : np.searchsorted(chosen, rows.stop)
                ]
                if len(among):
                    yield split, rows, among - rows.start

    def _read(self, names: Sequence[str], rows: slice, among: np.ndarray) -> Arrays:
        return {name: store.physical(self._file, name, rows, among) for name in names}

    def _stored(self) -> Iterator[Episode]:
        numbers = itertools.count()
        for split, rows, among in self._places():
            block = self._read((*TRAJECTORY, *ON_STATES, *ON_ACTIONS), rows, among)
            for row, length in enumerate(block["length"].tolist()):
                states = {name: block[name][row, : length + 1] for name in ON_STATES}
                actions = {name: block[name][row, :length] for name in ON_ACTIONS}
                yield Episode(
                    number=next(numbers),
                    trajectory=int(block["trajectory"][row]),
                    split=split,
                    seed=int(block["seed"][row]),
                    from_reset=bool(block["from_reset"][row]),
                    initial_state=block["initial_state"][row],
                    action_noise_std=float(block["action_noise_std"][row]),
                    condition=block["condition"][row],
                    success=bool(block["success"][row]),
                    replay=None,
                    **states,
                    **actions,
                )

    def _replayed(self, batch: Sequence[Episode], run: Replays) -> Iterator[Episode]:
        """Trajectories with their replays, which must be what is stored."""
        starts = [
            ({name: np.array([getattr(each, name)]) for name in STARTS}, each.actions)
            for each in batch
        ]
        size = self._per_call
        replays = run([starts[first : first + size] for first in range(0, len(starts), size)])
        for episode, replay in zip(batch, itertools.chain.from_iterable(replays), strict=True):
            self._require_same(episode, replay)
            yield episode._replace(replay=replay)

    def _require_same(self, episode: Episode, replay: Recording) -> None:
        """Check that a replay is what is stored."""
        states = replay.states
        simulated = (observations(states), states[:, STATE.velocity], states[:, STATE.angle])
        for name, values in zip(ON_STATES, simulated, strict=True):
            expected = store.as_read(self._file, name, values)
            if not np.array_equal(getattr(episode, name), expected):
                raise UserError(
                    f"{self.path}: trajectory {episode.trajectory} does not replay to the bit, so "
                    "it cannot be rendered or completed; `nsf replay` says what differs and why"
                )


def _kept(file: Any, chosen: ExportConfig) -> np.ndarray:
    """(n) bool: the trajectories that are not left out, whatever their split."""
    count = len(file["trajectory"])
    kept = file["success"][...] if chosen.successes_only else np.ones(count, bool)
    if chosen.contact_only:
        for rows in store.blocks(count):
            block = {name: store.physical(file, name, rows) for name in MOVED}
            kept[rows] &= block_moved(block).any(axis=1)
    return kept


@contextmanager
def chosen_from(
    path: Path, file: Any, chosen: ExportConfig, *, replays: bool = False, jobs: int = 1
) -> Iterator[Source]:
    """Chosen trajectories of an open data set, and processes that simulate them again if needed.

    These start before a format's library is imported, since some have threads.

    Args:
        path: the data set.
        file: the same, open, from `store.reading`.
        chosen: which trajectories, and the size of their frames.
        replays: simulate them again even without frames.
        jobs: processes that do so.

    Raises:
        UserError: no trajectory is left, trajectories have scenes of their own, or the processes
            cannot be started.
    """
    if FACTORS in file:
        raise UserError(
            f"{path}: expected gym-pusht's scene in all trajectories, which is all that the "
            "formats' readers know; leave policies.scene as it is, and make the data again"
        )
    size = chosen.frames
    if not (replays or size):
        yield Source(path, file, chosen, None, jobs)
    elif jobs == 1:
        recorder = Recorder(size)
        yield Source(path, file, chosen, lambda lists: [_replay(recorder, x) for x in lists], jobs)
    else:
        with processes(jobs) as several:

            def run(lists: list[list[Start]]) -> list[list[Recording]]:
                return several.map(_replay_in_process, [(size, each) for each in lists])

            yield Source(path, file, chosen, run, jobs)


@cache
def _recorder(size: int) -> Recorder:
    return Recorder(size)


def _replay_in_process(size: int, starts: Sequence[Start]) -> list[Recording]:
    """The same in a process of its own, which keeps its simulator from call to call."""
    return _replay(_recorder(size), starts)


def _replay(recorder: Recorder, starts: Sequence[Start]) -> list[Recording]:
    """Trajectories simulated again from their starts by their actions."""
    found: list[Recording] = []
    for begins, actions in starts:
        start(recorder, begins, 0)
        found.append(recorder.record(actions.astype(np.float64)))
    return found


class _Progress:
    """A line now and then that says how far an export is."""

    def __init__(self, total: int) -> None:
        self._total, self._started = total, time.monotonic()
        self._said = self._started

    def past(self, number: int) -> None:
        """Say so if the last line is long ago; `number` is that of the last trajectory."""
        now, done = time.monotonic(), number + 1
        if now - self._said < EVERY:
            return
        self._said = now
        left = (now - self._started) / done * (self._total - done)
        say(f"{done} of {self._total} trajectories, {left:.0f} s left")
