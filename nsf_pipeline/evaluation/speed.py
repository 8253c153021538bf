"""The time that a predicted trajectory takes: models and simulators by turns in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import TEST
from nsf_pipeline.data.rollouts import desired_positions
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.metrics import Estimate
from nsf_pipeline.evaluation.tables import FLOW, SIMULATOR
from nsf_pipeline.files import FileError, read_table
from nsf_pipeline.model.states import in_layout
from nsf_pipeline.provenance import versions
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, layout_of
from nsf_pipeline.system.printing import say
from nsf_pipeline.system.processes import Processes, processes
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.user_models import UserModel

RECURSIVE, PARALLEL, GYM = "recursive", "simulator_all_cores", "gym_pusht"
SIMULATED = {SIMULATOR: 256, PARALLEL: 1024, GYM: 16}
"""Trajectories simulated, at most; the time of more is extrapolated from these."""
COLUMNS = (
    "model",
    "at_once",
    "seconds",
    "seconds_least",
    "seconds_most",
    "times_flow",
    "measured_at_once",
)


SCORED = ("model", "group", "contact", "horizon_s", "crps", "crps_lower", "crps_upper")
"""Columns of `horizons.csv` that the figure needs; the last four are numbers."""
GREATEST = 1e6
"""px; no CRPS is greater."""


class Starts(NamedTuple):
    """Where predicted trajectories start: states of the test split.

    Attributes:
        state: (n, 7) px, px/s, rad.
        time: (n) s since the policy started.
        condition: (n, C) the packed DMP vector.
        actions: (n, T, 2) px, for the simulators, which take actions instead of the policy.
    """

    state: Float[np.ndarray, "n 7"]
    time: Float[np.ndarray, " n"]
    condition: Float[np.ndarray, "n condition"]
    actions: Float[np.ndarray, "n time 2"]

    def first(self, count: int) -> "Starts":
        """The first `count` of them."""
        return Starts(*(values[:count] for values in self))


def measure(
    config: Config,
    models: Mapping[str, Any],
    starts: Starts,
    horizon: float,
    cores: int,
) -> pd.DataFrame:
    """`speed.csv`: the flow in one pass and recursively, other models, and the simulators.

    Nothing else should run on the machine meanwhile.

    Args:
        config: what the stage `speed` reads.
        models: by the names that tables give them, the flow among them.
        starts: where trajectories start.
        horizon: s.
        cores: processes of the simulator on all cores.
    """
    with processes(cores, "spawn") as pool:
        return time_all(
            {
                FLOW: one_pass(models[FLOW], horizon),
                RECURSIVE: step_by_step(models[FLOW], horizon),
                **{name: one_pass(models[name], horizon) for name in models if name != FLOW},
                SIMULATOR: lambda starts: lambda: simulated(starts),
                PARALLEL: lambda starts: lambda: simulated_by(pool, cores, starts),
                GYM: stepped,
            },
            starts,
            config,
        )


def choose_starts(config: Config, dataset: Path, horizon: float, count: int) -> Starts:
    """States of the test split whose trajectories last a horizon longer, in random order.

    They are repeated if the split has fewer than `count`.

    Raises:
        StoreError: the data set cannot be read.
        UserError: there is no such state.
    """
    test, steps = load_trajectories(dataset, TEST, STATE.dim), round(horizon / CONTROL_DT)
    last = test.length[:, None] - steps
    row, step = np.nonzero(np.arange(test.states.shape[1]) <= last)
    if not len(row):
        raise UserError(f"{dataset}: no test trajectory lasts {horizon:g} s; make more of them")
    random = np.random.default_rng(config.seed)
    chosen = np.resize(random.permutation(len(row)), count)
    row, step = row[chosen], step[chosen]
    condition = test.condition[row]
    std = DMPParams.from_vector(condition).action_noise_std[:, None, None]
    noise = std * random.normal(0.0, 1.0, (count, steps, 2))
    starts = Starts(test.states[row, step], np.float32(CONTROL_DT) * step, condition, noise)
    return starts._replace(actions=actions_of(config, starts))


def actions_of(config: Config, starts: Starts) -> np.ndarray:
    """The policies' actions (n, T, 2) px; `starts.actions` gives the noise to add."""
    first = np.round(starts.time / CONTROL_DT).astype(int)
    steps = first[:, None] + np.arange(starts.actions.shape[1])
    targets = desired_positions(starts.condition.astype(np.float64), config)
    desired = np.take_along_axis(targets, steps[:, :, None], axis=1)
    return np.clip(desired + starts.actions, *geometry.WORKSPACE)


Prepared = Callable[[], object]
Side = Callable[[Starts], Prepared]
"""Takes the starts and returns the work to time, which waits for its own result."""


def one_pass(model: Any, horizon: float) -> Side:
    """A model's `sample`, once for each start."""
    if isinstance(model, UserModel):
        return _by_user(model, horizon)

    @eqx.filter_jit
    def draw(model: Any, key: Array, x: Array, s: Array, condition: Array) -> Array:
        keys = jax.random.split(key, len(x))
        one = lambda key, x, s, c: model.sample(key, x, s, s + horizon, c, 1)[0]  # noqa: E731
        return jax.vmap(one)(keys, x, s, condition)

    return _on_device(draw, model)


def _by_user(model: UserModel, horizon: float) -> Side:
    def prepare(starts: Starts) -> Prepared:
        keys = jax.random.split(jax.random.key(0), len(starts.state))
        later = (starts.time + horizon).astype(np.float32)
        return lambda: model.sample(keys, starts.state, starts.time, later, starts.condition, 1)

    return prepare


def step_by_step(model: Any, horizon: float) -> Side:
    """A model's `rollout`, one control step at a time, once for each start."""
    steps = round(horizon / CONTROL_DT)

    @eqx.filter_jit
    def draw(model: Any, key: Array, x: Array, s: Array, condition: Array) -> Array:
        keys = jax.random.split(key, len(x))
        times = s[:, None] + CONTROL_DT * jnp.arange(steps + 1)
        return jax.vmap(model.rollout)(keys, x, times, condition)[:, -1]

    return _on_device(draw, model)


def _on_device(draw: Callable[..., Array], model: Any) -> Side:
    layout = layout_of(len(model.state_names))
    key = jax.random.key(0)

    def prepare(starts: Starts) -> Prepared:
        state, time, condition = (
            jnp.asarray(values, jnp.float32)
            for values in (in_layout(starts.state, layout), starts.time, starts.condition)
        )
        return lambda: jax.block_until_ready(draw(model, key, state, time, condition))

    return prepare


def simulated(starts: Starts) -> np.ndarray:
    """The states at the end, by this package's simulator on one core."""
    simulator, later = Simulator(), np.empty((len(starts.state), STATE.dim))
    for row, state in enumerate(starts.state.astype(np.float64)):
        simulator.enter(state)
        later[row] = simulator.rollout(starts.actions[row])[-1]
    return later


def simulated_by(pool: Processes, cores: int, starts: Starts) -> np.ndarray:
    """The states at the end, by this package's simulator on all cores."""
    shares = np.array_split(np.arange(len(starts.state)), cores)
    parts = [Starts(*(values[share] for values in starts)) for share in shares if len(share)]
    return np.concatenate(pool.map(simulated, [(part,) for part in parts]))


def stepped(starts: Starts) -> Prepared:
    """Plain gym-pusht, which cannot enter a state and so starts from resets."""
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", disable_env_checker=True)

    def work() -> None:
        for row, actions in enumerate(starts.actions):
            env.reset(seed=row)
            for action in actions:
                env.step(action)

    return work


def time_all(sides: Mapping[str, Side], starts: Starts, config: Config) -> pd.DataFrame:
    """`speed.csv`: medians over rounds, in each of which all models and simulators take turns.

    Every second round goes in reverse order. All of them run once untimed, to compile and start.
    A number of trajectories that `SIMULATED` caps is timed once, not again for every larger size.
    """
    rows = []
    taken: dict[tuple[str, int], list[float]] = {}
    for size in sorted(config.speed.sizes):
        counts = {name: min(size, SIMULATED.get(name, size)) for name in sides}
        work: dict[tuple[str, int], Prepared] = {}
        for side in [side for side in counts.items() if side not in taken]:
            work[side] = sides[side[0]](starts.first(side[1]))
            work[side]()
            taken[side] = []
        for turn in range(config.speed.rounds):
            for side in list(work)[:: -1 if turn % 2 else 1]:
                started = time.perf_counter()
                work[side]()
                taken[side].append((time.perf_counter() - started) / side[1])
        flow = statistics.median(taken[FLOW, counts[FLOW]])
        for name, count in counts.items():
            times = taken[name, count]
            median, spread = statistics.median(times), (min(times), max(times))
            rows.append((name, size, median, *spread, median / flow, count))
        say(f"{size} at once: timed")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_crps(path: Path, horizon: float) -> dict[str, Estimate]:
    """CRPS (px) of the block's position at a horizon over all states, by model.

    Args:
        path: `horizons.csv`; only the columns `SCORED` are read.
        horizon: s.

    Raises:
        FileError: it is no table of scores, or has none at this horizon.
    """
    what = "a table of scores"
    names, rows = read_table(path, what)
    if missing := [name for name in SCORED if name not in names]:
        raise FileError(f"{path}: not {what}: it has no column {missing[0]}")
    table = pd.DataFrame(rows, columns=names, dtype=str)[list(SCORED)]
    try:
        for name in SCORED[-4:]:
            table[name] = [float(cell) if cell else np.nan for cell in table[name]]
    except ValueError:
        raise FileError(f"{path}: not {what}: expected numbers in the column {name}") from None
    if table.duplicated(list(SCORED[:4])).any():
        raise FileError(f"{path}: not {what}: it has two rows for the same scores")
    found = crps_of(table, horizon)
    if not found:
        raise FileError(
            f"{path}: no CRPS of the block's position {horizon:g} s ahead; give the table of an "
            "evaluation with the same ensembles.horizons"
        )
    for model, score in found.items():
        if not all(0.0 <= value <= GREATEST for value in score) or not model.isprintable():
            raise FileError(f"{path}: not {what}: the CRPS of {model!r} is {score.value:g} px")
    return found


def crps_of(scores: pd.DataFrame, horizon: float) -> dict[str, Estimate]:
    """CRPS (px) of the block's position at a horizon over all states, by model; some are undefined.

    Args:
        scores: with the columns `SCORED`.
        horizon: s.
    """
    chosen = scores[
        np.isclose(scores["horizon_s"], horizon)
        & (scores["group"] == "block_position")
        & (scores["contact"] == "all")
        & scores["crps"].notna()
    ]
    found = chosen[["crps", "crps_lower", "crps_upper"]].itertuples(index=False)
    return {name: Estimate(*row) for name, row in zip(chosen["model"], found, strict=True)}


def as_markdown(
    table: pd.DataFrame, horizon: float, config: Config, cores: int, seconds: float
) -> str:
    """Times per trajectory, and their ratio to the flow's, by number predicted at once."""
    sizes = sorted(set(table["at_once"]))
    lines = [
        f"# Cost of predicting {horizon:g} s ahead",
        "",
        "| per trajectory, and times the flow's | "
        + " | ".join(f"{size:,} at once" for size in sizes)
        + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    cells = {(row["model"], row["at_once"]): row for row in table.to_dict("records")}
    names = dict.fromkeys(table["model"])
    for name in sorted(names, key=lambda name: cells[name, sizes[-1]]["seconds"]):
        shown = []
        for size in sizes:
            cell = cells[name, size]
            times = f" (×{cell['times_flow']:.3g})" if name != FLOW else ""
            shown.append(f"{_duration(cell['seconds'])}{times}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    simulated = ", ".join(f"{count} for {name}" for name, count in SIMULATED.items())
    lines += [
        "",
        "- Trajectories start from random states of the test split. Models run compiled, on "
        f"{len(jax.devices())} x {jax.devices()[0].device_kind}, with {cores} cores; "
        "`recursive` is the flow one control step at a time.",
        f"- Medians over {config.speed.rounds} rounds in one process, in which all take turns; "
        "`speed.csv` also has the least and the most. Simulators run one trajectory after another. "
        f"At most this many are timed: {simulated}; for more, the time per trajectory is taken to "
        "be the same. gym_pusht starts from resets.",
        f"- Measured in {seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + ".",
    ]
    return "\n".join([*lines, ""])


def _duration(seconds: float) -> str:
    unit, factor = next(
        (unit, factor)
        for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
        if seconds * factor >= 1.0 or unit == "µs"
    )
    return f"{seconds * factor:.3g} {unit}"
