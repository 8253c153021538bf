"""Videos of episodes: which ones are shown, and their frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline.data.schema import NEVER, THRESHOLDS
from nsf_pipeline.paths import HARDEST, SUCCESSES
from nsf_pipeline.protocols.rows import CONTACT, Row
from nsf_pipeline.pusht.geometry import coverage
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.pusht.video import annotated, record

OF_SUCCESSES = Row(CONTACT, "flow_4", 8.0)
"""The row whose successes are shown."""
SUCCESS = THRESHOLDS[0]


class Shown(NamedTuple):
    """An episode that is shown.

    Attributes:
        title: which one it is, and why it is shown.
        row: the row that it belongs to.
        arrays: its own of `EPISODES`, without the first axis.
    """

    title: str
    row: Row
    arrays: Mapping[str, Any]


def choose(played: Sequence[tuple[Row, Mapping[str, np.ndarray]]]) -> dict[str, Shown]:
    """The episodes that are shown, by the names in `SUCCESSES` and `HARDEST`.

    The successes are the fastest, the median and the slowest of `OF_SUCCESSES`, by the steps until
    the coverage exceeds 0.95; if there is none, each is the episode that came closest. The hardest
    are those of all rows whose greatest coverage is least, the least first. Ties are in the order
    of rows and episodes.

    Args:
        played: rows of the standard protocol, `OF_SUCCESSES` among them, and their arrays of
            `EPISODES`; three episodes or more in all.
    """
    return {**_successes(played), **_hardest(played)}


def _successes(played: Sequence[tuple[Row, Mapping[str, np.ndarray]]]) -> dict[str, Shown]:
    ((row, arrays),) = (pair for pair in played if pair[0].name == OF_SUCCESSES.name)
    first, greatest = arrays["first_step"][:, 0], arrays["coverage"].max(axis=1)
    count, total = int((first != NEVER).sum()), len(first)
    steps = np.where(first == NEVER, np.iinfo(first.dtype).max, first)
    order = np.lexsort([-greatest, steps])[: count or 1]
    places = (0, (len(order) - 1) // 2, len(order) - 1)
    found = {}
    for (name, which), place in zip(SUCCESSES.items(), places, strict=True):
        if count:
            why = f"The {which} of {count:,} successes in {total:,} episodes"
        else:
            why = f"None of {total:,} episodes is a success; this one came closest"
        found[name] = _shown(why, row, arrays, int(order[place]))
    return found


def _hardest(played: Sequence[tuple[Row, Mapping[str, np.ndarray]]]) -> dict[str, Shown]:
    greatest = [
        (float(covered), place, episode)
        for place, (_, arrays) in enumerate(played)
        for episode, covered in enumerate(arrays["coverage"].max(axis=1))
    ]
    failures = sum(covered <= SUCCESS for covered, *_ in greatest)
    of = f"of {len(greatest):,} episodes, of which {failures:,} never exceeded {SUCCESS:g}"
    return {
        name: _shown(f"The {which} {of}", *played[place], episode)
        for (name, which), (_, place, episode) in zip(
            HARDEST.items(), sorted(greatest), strict=False
        )
    }


def _shown(why: str, row: Row, arrays: Mapping[str, np.ndarray], episode: int) -> Shown:
    own = {name: values[episode] for name, values in arrays.items()}
    first, greatest = int(own["first_step"][0]), own["coverage"].max()
    outcome = f"coverage {greatest:.1%} at most"
    if first != NEVER:
        outcome += f", above {SUCCESS:g} after {first} steps"
    return Shown(f"{why}. {_name(row, own)} (seed {own['seed']}): {outcome}", row, own)


def _name(row: Row, episode: Mapping[str, Any]) -> str:
    noise = f"{row.action_noise_std:g} px of action noise"
    return f"{row.planner}, {row.model}, {noise}, episode {episode['episode']}"


def frames(shown: Shown) -> Iterator[np.ndarray]:
    """Frames of an episode, simulated again from its reset by its stored actions.

    Each shows the push that the next step belongs to: its whole path, what the agent has done of
    it, and where the model predicted that the block would end up.

    Args:
        shown: the episode; nothing moves the block in it but the agent.

    Yields:
        length + 1 frames (512, 512, 3) uint8.
    """
    arrays, length = shown.arrays, int(shown.arrays["length"])
    first, pushes = int(arrays["first_step"][0]), arrays["push"][:length]
    simulator = Simulator()
    simulator.reset(int(arrays["seed"]))
    agents: list[np.ndarray] = []
    actions = arrays["actions"][:length].astype(np.float64)
    for step, frame in enumerate(record(simulator, actions)):
        state = simulator.state()
        agents.append(state[STATE.agent])
        now = min(step, length - 1)
        of_push = np.flatnonzero(pushes == pushes[now])
        targets = arrays["targets"][of_push]
        caption = (
            f"{_name(shown.row, arrays)}\n"
            f"step {step}   push {pushes[now] + 1}   coverage {coverage(state[STATE.block]):.1%}"
        )
        if NEVER < first <= step:
            caption += f"   above {SUCCESS:g} after step {first}"
        travelled = np.array(agents[of_push[0] :])
        yield annotated(
            frame, targets, targets[-1], travelled, caption, predicted=arrays["predicted"][now]
        )
