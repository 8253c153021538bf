"""The test states: where predictions start, the truth, and the simulator's ensembles."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import TRAIN
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import again
from nsf_pipeline.paths import shard_in
from nsf_pipeline.provenance import require_current
from nsf_pipeline.pusht.state import STATE, layout_of
from nsf_pipeline.timing import CONTROL_DT

Classes = dict[str, Bool[np.ndarray, " n"]]


def gap_of(horizon: float) -> int:
    """Control steps of a horizon in s."""
    return round(horizon / CONTROL_DT)


class States(NamedTuple):
    """Test states of one horizon, of any layout of `pusht.state`.

    Attributes:
        x_init: (n, dim); those of ensembles have all 10 numbers.
        x_final: (n, dim) the truth, a horizon later.
        t_init: (n) s.
        t_final: (n) s.
        condition: (n, C) the packed DMP vector.
    """

    x_init: Float[np.ndarray, "n dim"]
    x_final: Float[np.ndarray, "n dim"]
    t_init: Float[np.ndarray, " n"]
    t_final: Float[np.ndarray, " n"]
    condition: Float[np.ndarray, "n condition"]

    def __len__(self) -> int:
        return len(self.x_init)

    @property
    def gap(self) -> int:
        """Control steps from start to end, the same for all."""
        return gap_of(float(self.t_final[0] - self.t_init[0]))

    def with_numbers(self, names: Sequence[str]) -> "States":
        """These states with only the numbers that a model's state has, by their names."""
        columns = layout_of(self.x_init.shape[1]).columns(names)
        # Not `_replace`, which takes `len`, here the number of states, for the number of fields.
        return States(self.x_init[:, columns], self.x_final[:, columns], *self[2:])


class Ensembles(NamedTuple):
    """The test states of one horizon with the simulator's ensembles from them.

    Attributes:
        states: n of them.
        members: (n, M, 7) the simulator's draws from each.
        contact: (n) whether the policy without noise moves the block within the horizon.
        weight: (n) weight in means over all states of the test split; 1 on average.
        trajectory: (n) index in the whole data set.
        step: (n) control step.
        members_7: (n, E, 7) the first members, entered at the state's seven numbers.
        members_10: (n, E, 7) the first members, entered at these and the block's velocity.
    """

    states: States
    members: Float[np.ndarray, "n members 7"]
    contact: Bool[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    trajectory: Int[np.ndarray, " n"]
    step: Int[np.ndarray, " n"]
    members_7: Float[np.ndarray, "n entered 7"]
    members_10: Float[np.ndarray, "n entered 7"]


def load_ensembles(folder: Path, config: Config) -> dict[float, Ensembles]:
    """The ensembles of all horizons, by horizon in s, in the settings' order.

    Args:
        folder: holds `00000.h5` and so on.
        config: all settings.

    Raises:
        FileError: a shard is missing, damaged or stale, or holds the states of another shard.
        UserError: a horizon has too few states to score.
    """
    parts = []
    for shard in range(config.ensembles.num_shards):
        path = shard_in(folder, shard)
        with store.reading(path, "ensembles") as file:
            require_current(path, store.record_of(file), config)
            first, stop = (int(file.attrs[end]) for end in ("first", "stop"))
            if (first, stop) != (own := config.ensembles.shard_range(shard)):
                raise store.StoreError(
                    f"{path}: expected states {own[0]} to {own[1] - 1}, got {first} to {stop - 1}; "
                    f"{again(path)}"
                )
            parts.append({name: file[name][...] for name in store.ENSEMBLES})
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in store.ENSEMBLES}
    found = {}
    for horizon in config.ensembles.horizons:
        rows = np.flatnonzero(np.isclose(arrays["horizon_s"], horizon))
        if len(rows) < 2:
            raise UserError(
                f"{folder}: expected at least 2 states {horizon:g} s ahead, got {len(rows)}; raise "
                "num_trajectories or lower ensembles.horizons"
            )
        of = {name: values[rows] for name, values in arrays.items()}
        step = of["step"].astype(np.float32)
        states = States(
            x_init=_whole(of["state"], of["block_velocity"]),
            x_final=_whole(of["truth"], of["truth_block_velocity"]),
            t_init=np.float32(CONTROL_DT) * step,
            t_final=np.float32(CONTROL_DT) * (step + np.float32(gap_of(horizon))),
            condition=of["condition"].astype(np.float32),
        )
        found[horizon] = Ensembles(states, *(of[name] for name in Ensembles._fields[1:]))
    return found


def _whole(states: np.ndarray, block_velocity: np.ndarray) -> np.ndarray:
    return np.concatenate([states, block_velocity], axis=-1).astype(np.float32)


def noise_classes(condition: Float[np.ndarray, "n condition"], config: PolicyConfig) -> Classes:
    """Which states have no action noise, which little and which much; none if all have the same.

    Args:
        condition: of each state.
        config: the range of the noise, which is cut in the middle.

    Returns:
        By the name of each class that has states, (n) bool.
    """
    std = DMPParams.from_vector(condition).action_noise_std
    low, high = config.action_noise_std
    middle, noisy = (low + high) / 2.0, std > 0.0
    if low == high:
        classes = {f"{high:g} px": noisy}
    else:
        classes = {
            f"{low:g} to {middle:g} px": noisy & (std <= middle),
            f"{middle:g} to {high:g} px": noisy & (std > middle),
        }
    found = {name: rows for name, rows in {"no noise": ~noisy, **classes}.items() if rows.any()}
    return found if len(found) > 1 else {}


def typical_changes(dataset: Path, horizons: Iterable[float]) -> dict[float, np.ndarray]:
    """By horizon, the root mean square change (7) of the state in the train split.

    It is the standard deviation of persistence, and the unit of joint scores. The data set is read
    a block at a time.

    Raises:
        StoreError: the data set cannot be read.
    """
    gaps = {horizon: gap_of(horizon) for horizon in horizons}
    totals = {horizon: np.zeros(STATE.dim) for horizon in gaps}
    counts = dict.fromkeys(gaps, 0)
    with store.reading(dataset, "dataset") as file:
        is_train, length = file["split"][...] == TRAIN, file["length"][...]
        for rows in store.blocks(len(length)):
            chosen = is_train[rows]
            parts = {name: store.physical(file, name, rows, chosen) for name in state_parts(STATE)}
            states = join_state(parts, STATE).astype(np.float64)
            for horizon, gap in gaps.items():
                last = length[rows][chosen, None] - gap
                reached = np.arange(max(states.shape[1] - gap, 0)) <= last
                change = states[:, gap:][reached] - states[:, : states.shape[1] - gap][reached]
                totals[horizon] += np.square(change).sum(axis=0)
                counts[horizon] += len(change)
    return {h: np.sqrt(totals[h] / max(counts[h], 1)) + 1e-6 for h in gaps}
