"""Episodes played in gym-pusht's own environment by a planner.

Many episodes run side by side, so that the planner can ask its model about all of them at once.
Each carries out a push as a whole, and then the planner chooses the next one. An episode goes on
after its first success: the planner's aim is always the least coverage in `THRESHOLDS` that was not
exceeded yet, and the steps after which each was first exceeded are recorded. So one run serves all
thresholds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.schema import EPISODES, HELD, NEVER, THRESHOLDS
from nsf_pipeline.data.starts import is_clear
from nsf_pipeline.pusht.episode import MAX_STEPS, Episode, as_actions
from nsf_pipeline.pusht.geometry import T_CENTRE
from nsf_pipeline.pusht.state import STATE, rotated
from nsf_pipeline.system.printing import progress

SHIFT, TURN = 40.0, np.radians(20.0)
"""px and rad; a disturbance moves the block by at most this much."""
DISTURBED_BETWEEN = ((20, 60), (80, 120))
"""Steps between which each disturbance of an episode happens: `schema.DISTURBANCES` in all."""
WAIT = 5
"""Steps in which the agent stays where it is if a planner has chosen no target at all."""

OVER_TIME = ("targets", "actions", "coverage", "block_pose", "push", "predicted")
REACHED = ("first_step", "first_held")
"""Arrays of the steps after which thresholds were reached: at all, and held."""


class Rules(NamedTuple):
    """What makes an episode harder than the standard one.

    Attributes:
        action_noise_std: px; of the Gaussian noise on every target.
        disturbed: the block is moved twice, and only what is exceeded after that counts.
        held: the agent stops as soon as the aim is reached, and waits there for `HELD` steps.
        hides_velocity: the planner is told that the agent is at rest.
        thresholds: the coverages that the episode is to exceed; it ends when all are.
        steps: at most.
    """

    action_noise_std: float = 0.0
    disturbed: bool = False
    held: bool = False
    hides_velocity: bool = False
    thresholds: tuple[float, ...] = THRESHOLDS
    steps: int = MAX_STEPS


class Situation(NamedTuple):
    """What a planner is asked.

    Attributes:
        episode: number of the episode.
        decision: number of the push, from 0.
        state: (7,) px, px/s, rad.
        aim: the coverage to exceed.
    """

    episode: int
    decision: int
    state: np.ndarray
    aim: float


class Decision(NamedTuple):
    """What a planner answers.

    Attributes:
        targets: (T, 2) px, one for each control step of the push.
        predicted: (3,) px, px, rad: the block's mean pose at its end, as the model predicts it.
        queries: predictions that the planner asked for.
    """

    targets: np.ndarray
    predicted: np.ndarray
    queries: int


Decide = Callable[[Sequence[Situation]], Sequence[Decision]]


@dataclass
class _Played:
    """An episode in play, with what is recorded of it.

    Attributes:
        number: of the episode.
        seed: of the reset.
        env: the environment.
        initial_state: (7,) px, px/s, rad.
        noise: (S, 2) px, of each step.
        disturbances: by the number of steps before it, the generator of a disturbance.
        arrays: those of `EPISODES` that fill up in the course of the episode.
        in_a_row: (thresholds) steps up to now after which each was exceeded without a break.
        reached: (thresholds) whether each was exceeded as the rules ask for.
        length: steps taken.
        pushes: chosen.
        queries: of the planner's.
        moved: disturbances that happened.
    """

    number: int
    seed: int
    env: Episode
    initial_state: np.ndarray
    noise: np.ndarray
    disturbances: dict[int, np.random.Generator]
    arrays: dict[str, np.ndarray]
    in_a_row: np.ndarray
    reached: np.ndarray
    length: int = 0
    pushes: int = 0
    queries: int = 0
    moved: int = 0


def play(
    decide: Decide, rules: Rules, seed: int, first_seed: int, first: int, stop: int
) -> tuple[dict[str, np.ndarray], float]:
    """Play some episodes side by side.

    An episode's noise and disturbances depend on the seed and its number alone, so they are the
    same for all planners and models.

    Args:
        decide: the planner; it is asked for all episodes that need a push, at once.
        rules: what makes the episodes harder than the standard.
        seed: of the noise and the disturbances.
        first_seed: of `env.reset` of episode 0; the others follow.
        first: number of the first episode.
        stop: one past the last.

    Returns:
        The arrays of `EPISODES`; and the processor's seconds that all of it took.

    Raises:
        ValueError: the numbers are no whole ones in order, or a decision is none.
    """
    checks.whole("first", first)
    checks.whole("stop", stop, first + 1)
    started = time.process_time()
    report = progress()
    played = [_begin(rules, seed, first_seed, number) for number in range(first, stop)]
    waiting = played
    while waiting:
        situations = [_situation(each, rules) for each in waiting]
        for each, decision in zip(waiting, decide(situations), strict=True):
            _carry_out(each, decision, rules)
        waiting = [each for each in waiting if not _is_over(each, rules)]
        ended, steps = len(played) - len(waiting), sum(each.length for each in played)
        report(f"{ended} of {len(played)} episodes ended, {steps} steps taken")
    arrays = {
        "episode": np.arange(first, stop),
        "seed": np.array([each.seed for each in played]),
        "initial_state": np.array([each.initial_state for each in played]),
        **{
            name: np.array([getattr(each, name) for each in played], EPISODES[name].dtype)
            for name in ("length", "pushes", "queries")
        },
        **{name: np.array([each.arrays[name] for each in played]) for name in played[0].arrays},
    }
    return arrays, time.process_time() - started


def _begin(rules: Rules, seed: int, first_seed: int, number: int) -> _Played:
    env = Episode(first_seed + number)
    noise = generator(seed, number, Stream.EPISODE).normal(0.0, 1.0, (MAX_STEPS, 2))
    disturbances = {}
    for place, (low, high) in enumerate(DISTURBED_BETWEEN if rules.disturbed else ()):
        random = generator(seed, number, Stream.DISTURBANCE, place)
        disturbances[int(random.integers(low, high))] = random
    arrays = {}
    for name in (*OVER_TIME, *REACHED, "disturbed_step", "disturbed_pose"):
        axes, dtype = EPISODES[name].axes, EPISODES[name].dtype
        shape = [rules.steps if axis == "S" else int(axis) for axis in axes]
        arrays[name] = np.full(shape, NEVER if dtype == "int32" else 0, dtype)
    return _Played(
        number,
        first_seed + number,
        env,
        env.state,
        rules.action_noise_std * noise[: rules.steps],
        disturbances,
        arrays,
        np.zeros(len(THRESHOLDS), int),
        np.zeros(len(THRESHOLDS), bool),
    )


def _not_reached(each: _Played, rules: Rules) -> list[float]:
    """The thresholds that are still to be exceeded."""
    reached = dict(zip(THRESHOLDS, each.reached, strict=True))
    return [threshold for threshold in rules.thresholds if not reached[threshold]]


def _aim(each: _Played, rules: Rules) -> float:
    return _not_reached(each, rules)[0]


def _is_over(each: _Played, rules: Rules) -> bool:
    return each.length >= rules.steps or not _not_reached(each, rules)


def _situation(each: _Played, rules: Rules) -> Situation:
    state = each.env.state
    if rules.hides_velocity:
        state[STATE.velocity] = 0.0
    return Situation(each.number, each.pushes, state, _aim(each, rules))


def _carry_out(each: _Played, decision: Decision, rules: Rules) -> None:
    """Take the steps of a push, until it ends, the episode ends or the block is moved."""
    targets = checks.numbers("targets", decision.targets, (None, 2))
    if not len(targets):
        targets = np.repeat(each.env.state[None, STATE.agent], WAIT, axis=0)
    each.pushes += 1
    each.queries += decision.queries
    aim = _aim(each, rules)
    for target in targets:
        if not _step(each, target, decision, rules):
            return
        if rules.held and _covered(each) > aim:
            break
    else:
        return
    resting = each.env.state[STATE.agent]
    for _ in range(HELD - 1):
        if not _step(each, resting, decision, rules) or _covered(each) <= aim:
            return


def _covered(each: _Played) -> float:
    return float(each.arrays["coverage"][each.length - 1])


def _step(each: _Played, target: np.ndarray, decision: Decision, rules: Rules) -> bool:
    """Take one step; return whether the push goes on."""
    arrays, at = each.arrays, each.length
    arrays["targets"][at] = target
    arrays["actions"][at] = as_actions(target, each.noise[at])
    arrays["coverage"][at] = covered = each.env.step(arrays["actions"][at])
    arrays["block_pose"][at] = each.env.state[STATE.block]
    arrays["push"][at] = each.pushes - 1
    arrays["predicted"][at] = decision.predicted
    each.length += 1
    exceeded = covered > np.array(THRESHOLDS)
    each.in_a_row = np.where(exceeded, each.in_a_row + 1, 0)
    held = each.in_a_row >= HELD
    for name, reached in zip(REACHED, (exceeded, held), strict=True):
        arrays[name][reached & (arrays[name] == NEVER)] = each.length
    if all(step < each.length for step in each.disturbances):
        each.reached |= held if rules.held else exceeded
    if _is_over(each, rules):
        return False
    return not (each.length in each.disturbances and _disturb(each))


def _disturb(each: _Played) -> bool:
    """Move the block to a pose near by; return whether there was one."""
    pose = disturbed(each.disturbances[each.length], each.env.state)
    if pose is None:
        return False
    each.env.place_block(pose)
    each.arrays["disturbed_step"][each.moved] = each.length
    each.arrays["disturbed_pose"][each.moved] = pose
    each.moved += 1
    return True


def disturbed(random: np.random.Generator, state: np.ndarray) -> np.ndarray | None:
    """A pose of the block near that in a state, uniformly drawn among those that overlap nothing.

    Args:
        random: the disturbance's generator.
        state: (7,) px, px/s, rad.

    Returns:
        (3,) px, px, rad: the centre of mass is at most `SHIFT` away, the angle at most `TURN`; None
        if many draws find no such pose.
    """
    x, y = T_CENTRE
    for _ in range(100):
        direction = random.uniform(0.0, 2.0 * np.pi)
        distance = SHIFT * np.sqrt(random.random())
        angle = state[STATE.angle] + random.uniform(-TURN, TURN)
        old, new = (
            np.array(rotated(x, y, np.cos(a), np.sin(a))) for a in (state[STATE.angle], angle)
        )
        shift = distance * np.array([np.cos(direction), np.sin(direction)])
        pose = np.array([*(state[STATE.block_position] + old + shift - new), angle])
        if is_clear(pose, state[STATE.agent]):
            return pose
    return None
