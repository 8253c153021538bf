"""Ensembles: the simulator's own law from test states, sampled with fresh action noise.

From the state on, a member follows the policy's targets with its own action noise, just as the
trajectory did with different noise. So the members and the truth follow the same law, and no
prediction can expect a lower score than the members'.

The seven numbers of a state leave out the block's momentary velocity and what Chipmunk remembers of
contacts. So every member replays the trajectory's actions from its start up to the state, which
restores this memory, and then takes its own. If members were entered at the state itself, they
would follow another law: over states with contact, the CRPS of the block's position after 0.1 s was
then 0.72 px, 0.66 px with the block's velocity, and 0.49 px with the actions replayed; standard
errors of the differences are 0.04 px (`benchmarks/ensembles.py`). What these laws score is the
limit of predictors that know no more than the state's numbers, so some members are entered, too:
with the same noise, so that the difference is known well.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.actions import executed
from nsf_pipeline.data.merge import TEST
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.data.scenes import require_known_to_models
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY, StateLayout
from nsf_pipeline.timing import CONTROL_DT

READ = (
    "trajectory",
    "seed",
    "initial_state",
    "from_reset",
    "action_noise_std",
    "condition",
    *state_parts(STATE_WITH_BLOCK_VELOCITY),
    "targets",
    "actions",
    "length",
)
ENTERED = {"members_7": STATE, "members_10": STATE_WITH_BLOCK_VELOCITY}
"""By array, the numbers at which members are entered."""
MEMBERS = ("members", *ENTERED)
TOLERANCE = 1e-3
"""px, px/s, rad, rad/s; replays agree far better with states stored in single precision."""
Arrays = dict[str, np.ndarray]


class Selection(NamedTuple):
    """The states chosen for one horizon; places alternate between those with and without contact.

    Attributes:
        place: (n) below the number of states asked for; a place stays empty if too few states
            have contact, or too few have none.
        row: (n) trajectory, by its place in the test split.
        step: (n) control step.
        contact: (n) bool, whether the policy without noise moves the block within the horizon.
        share: share of states with contact among those of the test split that were examined.
    """

    place: np.ndarray
    row: np.ndarray
    step: np.ndarray
    contact: np.ndarray
    share: float


def simulate_ensembles(config: Config, dataset: Path, first: int, stop: int) -> Arrays:
    """The arrays of an ensemble shard.

    A state and its members depend only on the seed, the trajectory, the step and the horizon. The
    choice of states depends on the seed, the horizon and the test split.

    Args:
        config: what the stage `ensembles` reads.
        dataset: the data set; only its test split is read.
        first: place of the first state among those of all horizons, one horizon after another.
        stop: one past the last place.

    Raises:
        StoreError: the data set cannot be read, or its trajectories do not replay.
        UserError: no test trajectory is as long as a horizon.
    """
    settings, simulator = config.ensembles, Simulator()
    test = load_test_split(dataset)
    parts: list[Arrays] = []
    for number, horizon in enumerate(settings.horizons):
        low, high = (
            min(max(place - number * settings.num_states, 0), settings.num_states)
            for place in (first, stop)
        )
        if low == high:
            continue
        chosen = select(simulator, test, config, horizon)
        weight = weights_of(chosen)
        here = np.flatnonzero((low <= chosen.place) & (chosen.place < high))
        row, step, gap = chosen.row[here], chosen.step[here], round(horizon / CONTROL_DT)
        places = [(int(r), int(t)) for r, t in zip(row, step, strict=True)]
        states = [_replayed(simulator, test, dataset, *place) for place in places]
        members: dict[str, list[np.ndarray]] = {name: [] for name in MEMBERS}
        for place in places:
            actions = noisy_actions(test, config, *place, gap)
            members["members"].append(members_of(simulator, test, *place, actions))
            for name, layout in ENTERED.items():
                some = actions[: settings.num_entered]
                members[name].append(members_from(simulator, test, *place, some, layout))
        state = np.array(states).reshape(-1, STATE_WITH_BLOCK_VELOCITY.dim)
        parts.append(
            {
                "horizon_s": np.full(len(here), horizon),
                "trajectory": test["trajectory"][row],
                "step": step,
                "state": state[:, : STATE.dim],
                "truth": test["states"][row, step + gap].astype(np.float64),
                "block_velocity": state[:, STATE.dim :],
                "truth_block_velocity": test["block_velocity"][row, step + gap].astype(np.float64),
                **{
                    name: np.array(found, np.float32).reshape(
                        -1,
                        settings.num_entered if name in ENTERED else settings.num_members,
                        STATE.dim,
                    )
                    for name, found in members.items()
                },
                "contact": chosen.contact[here],
                "weight": weight[here],
                "condition": test["condition"][row],
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in store.ENSEMBLES}


def load_test_split(dataset: Path) -> Arrays:
    """The arrays of the test split that ensembles need, as a rollout shard holds them.

    Returns:
        The arrays named in `READ`, and `states` (n, T+1, 7): px, px/s, rad.

    Raises:
        StoreError: the data set cannot be read, or the split is empty.
        UserError: models do not know the trajectories' scenes.
    """
    with store.reading(dataset, "dataset") as file:
        require_known_to_models(file, str(dataset))
        is_test = file["split"][...] == TEST
        parts = [
            {name: store.physical(file, name, rows, is_test[rows]) for name in READ}
            for rows in store.blocks(len(is_test))
        ]
    if not is_test.any():
        raise store.StoreError(
            f"{dataset}: no trajectory in the test split; raise num_trajectories or "
            "dataset.test_fraction"
        )
    found = {name: np.concatenate([part[name] for part in parts]) for name in READ}
    return found | {"states": join_state(found, STATE)}


def select(simulator: Simulator, test: Arrays, config: Config, horizon: float) -> Selection:
    """Choose the states of one horizon: half with contact, half without, otherwise uniformly.

    States whose trajectory lasts a horizon longer are examined in random order until there are
    enough of both kinds. Contact is judged by a run without noise, not by the outcome that is
    scored.

    Args:
        simulator: runs the policies without noise.
        test: the test split.
        config: how many states, and the seed.
        horizon: s.

    Raises:
        UserError: no trajectory is that long.
    """
    count, gap = config.ensembles.num_states, round(horizon / CONTROL_DT)
    last = test["length"][:, None] - gap
    rows, steps = np.nonzero(np.arange(test["states"].shape[1]) <= last)
    if not len(rows):
        raise UserError(
            f"no trajectory of the test split lasts {horizon:g} s; lower ensembles.horizons or "
            "raise num_trajectories"
        )
    random = np.random.default_rng([config.seed, Stream.SELECTION, gap])
    order = random.permutation(len(rows))
    wanted = {True: count - count // 2, False: count // 2}
    contact = np.zeros(0, bool)
    while len(contact) < len(order) and any((contact == k).sum() < n for k, n in wanted.items()):
        more = order[len(contact) :][:count]
        labels = [_moves(simulator, test, int(rows[i]), int(steps[i]), gap) for i in more]
        contact = np.append(contact, labels)
    kept = [np.flatnonzero(contact == kind)[:n] for kind, n in wanted.items()]
    place = np.concatenate([2 * np.arange(len(k)) + n for n, k in enumerate(kept)])
    which = np.concatenate(kept)[np.argsort(place)]
    at = order[which]
    return Selection(np.sort(place), rows[at], steps[at], contact[which], float(contact.mean()))


def weights_of(chosen: Selection) -> np.ndarray:
    """(n) weights, 1 on average, that turn means over the chosen states into the test split's."""
    share = np.where(chosen.contact, chosen.share, 1.0 - chosen.share)
    among_chosen = np.where(chosen.contact, chosen.contact.mean(), 1.0 - chosen.contact.mean())
    return share / among_chosen


def _moves(simulator: Simulator, test: Arrays, row: int, step: int, gap: int) -> bool:
    """Whether the policy without noise moves the block."""
    simulator.enter(test["states"][row, step])
    poses = simulator.rollout(test["targets"][row, step : step + gap])[:, STATE.block]
    return bool((poses != poses[0]).any())


def noisy_actions(test: Arrays, config: Config, row: int, step: int, gap: int) -> np.ndarray:
    """(M, gap, 2) px: the policy's targets from a step on, with each member's own noise."""
    trajectory = int(test["trajectory"][row])
    random = generator(config.seed, trajectory, Stream.ENSEMBLE, step, gap)
    std, targets = float(test["action_noise_std"][row]), test["targets"][row, step : step + gap]
    return executed(targets, std, config.ensembles.num_members, random)


def members_of(
    simulator: Simulator, test: Arrays, row: int, step: int, actions: np.ndarray
) -> np.ndarray:
    """(M, 7) float32: states after actions (M, gap, 2) that start at a step of a trajectory."""
    before = test["actions"][row, :step].astype(np.float64)
    ends = np.empty((len(actions), STATE.dim), np.float32)
    for member, own in enumerate(actions):
        start(simulator, test, row)
        ends[member] = simulator.rollout(np.concatenate([before, own]))[-1]
    return ends


def members_from(
    simulator: Simulator,
    test: Arrays,
    row: int,
    step: int,
    actions: np.ndarray,
    layout: StateLayout,
) -> np.ndarray:
    """The same, but each entered at the step's state as it is stored, instead of replayed.

    Args:
        simulator: is changed.
        test: the test split.
        row: trajectory.
        step: control step.
        actions: (M, gap, 2) px.
        layout: which numbers of the state are entered: `STATE`, in which the block is at rest, or
            `STATE_WITH_BLOCK_VELOCITY`.
    """
    state = join_state({name: test[name][row, step] for name in state_parts(layout)}, layout)
    return simulator.ensemble(state, actions)[:, -1].astype(np.float32)


def _replayed(simulator: Simulator, test: Arrays, dataset: Path, row: int, step: int) -> np.ndarray:
    """(10) float64: a trajectory's state, simulated again, as it is stored in single precision."""
    start(simulator, test, row)
    actions = test["actions"][row, :step].astype(np.float64)
    states = simulator.rollout(actions, STATE_WITH_BLOCK_VELOCITY)
    stored = (test[name][row, : step + 1] for name in ("states", "block_velocity"))
    error = np.abs(states - np.concatenate([*stored], axis=-1)).max()
    if error > TOLERANCE:
        raise store.StoreError(
            f"{dataset}: trajectory {test['trajectory'][row]} does not replay (off by "
            f"{error:.3g}): made with other versions or on other hardware; "
            f"`nsf replay {dataset} --verify` says more; make it again here"
        )
    return states[step]
