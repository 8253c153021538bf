"""Sampling: the initial state and the DMP parameters of each trajectory."""

import itertools
from collections.abc import Sequence

import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.config import Config, DMPConfig, PolicyConfig, PolicyFile
from nsf_pipeline.data.policy_file import params_of, start_of
from nsf_pipeline.data.randomness import Stream, generator, reset_seed
from nsf_pipeline.data.scenes import FACTORS, factors_of
from nsf_pipeline.data.simulators import Simulators
from nsf_pipeline.data.starts import DECIMALS, sample_start
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.geometry import T_CENTRE
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, rotated

CONTACT_SPREAD = 30.0
"""px; a policy that heads for the block aims at its centre with this standard deviation."""
NUDGES = 10
"""Of 1e-9 px along x and y: how far a given state may be moved so that it can be entered."""
MAX_OVERSHOOT = 1.0
"""How far beyond the aim the goal may lie, as a multiple of the distance from agent to aim."""


def sample_policies(config: Config, first: int, stop: int) -> dict[str, np.ndarray]:
    """The arrays of a policy shard for trajectories first to stop - 1.

    Raises:
        ValueError: they are no whole numbers in order.
    """
    checks.whole("first", first)
    checks.whole("stop", stop, first + 1)
    trajectories = range(first, stop)
    seeds = [reset_seed(config.seed, i) for i in trajectories]
    states, from_reset = initial_states(config, trajectories, seeds)
    given = _given(config)
    factors = [factors_of(config, i) for i in trajectories]
    for i in trajectories[: max(0, len(given) - first)]:
        try:
            states[i - first] = enterable(start_of(given[i]), factors[i - first])
        except UserError as error:
            raise UserError(f"policies.given: {error}") from None
        from_reset[i - first] = False
    policies = [
        params_of(given[i].policy)._replace(start=state[STATE.agent])
        if i < len(given)
        else sample_policy(
            generator(config.seed, i, Stream.POLICY),
            state,
            config.policies,
            config.dmp,
            sample_noise_std(generator(config.seed, i, Stream.NOISE_LEVEL), config.policies),
            block_scale=own.block_scale,
        )
        for i, state, own in zip(trajectories, states, factors, strict=True)
    ]
    varied = {}
    if not config.policies.scene.is_usual:
        varied = {FACTORS: np.stack([own.as_vector() for own in factors])}
    params = DMPParams(*(np.stack(values) for values in zip(*policies, strict=True)))
    return {
        "trajectory": np.arange(first, stop),
        "seed": np.array(seeds),
        "initial_state": states,
        "from_reset": from_reset,
        **params._asdict(),
        "condition": params.as_vector(),
        **varied,
    }


def _given(config: Config) -> list[PolicyFile]:
    """The policies of the first trajectories; settings that were loaded hold no path any more."""
    return [each for each in config.policies.given if isinstance(each, PolicyFile)]


def enterable(state: np.ndarray, factors: Factors = USUAL) -> np.ndarray:
    """(7,) the nearest state, within some 1e-8 px, that the simulator can enter exactly.

    Chipmunk cannot represent every position of the block.

    Args:
        state: (7,) px, px/s, rad.
        factors: of the simulator's scene.

    Raises:
        UserError: there is none.
    """
    simulator, state = Simulator(factors), state.round(DECIMALS)
    offsets = sorted(itertools.product(range(-NUDGES, NUDGES + 1), repeat=2), key=_length)
    for offset in offsets:
        nudged = state.copy()
        nudged[STATE.block_position] += 0.1**DECIMALS * np.array(offset)
        nudged = nudged.round(DECIMALS)
        simulator.enter(nudged)
        if (simulator.state() == nudged).all():
            return nudged
    raise UserError(f"the simulator cannot enter the state {state.tolist()}")


def _length(offset: tuple[int, ...]) -> int:
    return sum(step**2 for step in offset)


def initial_states(
    config: Config, trajectories: Sequence[int], seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 7) initial states, and (n) whether each is what `env.reset` gives for its seed."""
    simulators = Simulators()
    states, from_reset = np.full((len(seeds), STATE.dim), np.nan), np.ones(len(seeds), bool)
    for row, (trajectory, seed) in enumerate(zip(trajectories, seeds, strict=True)):
        random = generator(config.seed, trajectory, Stream.START)
        factors = factors_of(config, trajectory)
        simulator = simulators.of(factors)
        if random.random() < config.policies.mid_task_fraction:
            from_reset[row] = False
            # Chipmunk cannot represent every position: draw until the state is entered exactly.
            while (simulator.state() != states[row]).any():
                states[row] = sample_start(random, factors)
                simulator.enter(states[row])
        else:
            states[row] = simulator.reset(seed)
    return states, from_reset


def sample_noise_std(random: np.random.Generator, config: PolicyConfig) -> float:
    """px: standard deviation of a trajectory's action noise; 0 for some share of trajectories."""
    std = random.uniform(*config.action_noise_std)
    return 0.0 if random.random() < config.noiseless_fraction else std


def sample_policy(
    random: np.random.Generator,
    state: np.ndarray,
    config: PolicyConfig,
    dmp: DMPConfig,
    action_noise_std: float,
    shape: tuple[int, ...] = (),
    block_scale: float = 1.0,
) -> DMPParams:
    """One policy, or many, which start at the agent's position.

    Args:
        random: the trajectory's generator.
        state: (7,) initial state: px, px/s, rad.
        config: ranges to sample from.
        dmp: settings that all policies share.
        action_noise_std: px; of the noise with which the policy is executed.
        shape: leading axes of the policies' parameters; none for one policy.
        block_scale: size of the T, in multiples of gym-pusht's.

    Raises:
        ValueError: the state has another shape, or a number that is not finite.
    """
    state = checks.numbers("state", state, (STATE.dim,))
    position = state[STATE.agent]
    # All are drawn, used or not, so that contact_fraction changes no other number.
    duration = random.uniform(*config.duration, shape)
    low, high = np.array([config.goal_x, config.goal_y]).T
    goal = random.uniform(low, high, (*shape, 2))
    heads_for_block = random.random(shape) < config.contact_fraction
    aim = block_centre(state, block_scale) + random.normal(0.0, CONTACT_SPREAD, (*shape, 2))
    overshoot = random.uniform(0.0, MAX_OVERSHOOT, shape)
    through = np.clip(aim + np.expand_dims(overshoot, -1) * (aim - position), low, high)
    stiffness = random.uniform(*config.stiffness, shape)
    return DMPParams(
        duration=np.asarray(duration),
        start=np.broadcast_to(position, (*shape, 2)).copy(),
        goal=np.where(np.expand_dims(heads_for_block, -1), through, goal),
        weights=random.uniform(*config.weights, size=(*shape, 2, dmp.n_basis)),
        stiffness=np.asarray(stiffness),
        damping=np.asarray(2.0 * random.uniform(*config.damping_ratio, shape) * np.sqrt(stiffness)),
        action_noise_std=np.full(shape, action_noise_std),
    )


def block_centre(state: np.ndarray, block_scale: float = 1.0) -> np.ndarray:
    """(2,) px: centre of mass of the block in a state."""
    (x, y), angle = block_scale * T_CENTRE, state[STATE.angle]
    return state[STATE.block_position] + rotated(x, y, np.cos(angle), np.sin(angle))
