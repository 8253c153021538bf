"""Sampling: the initial state and the DMP parameters of each trajectory."""

import math

import numpy as np

from nsf_pipeline.config import Config, DMPConfig, PolicyConfig
from nsf_pipeline.data.randomness import Stream, generator, reset_seed
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.geometry import T_CENTRE
from nsf_pipeline.pusht.simulator import Simulator

CONTACT_SPREAD = 30.0
"""px; how far from the block's centre a path that heads for the block is aimed."""
MAX_OVERSHOOT = 1.0
"""How far beyond that point its goal may lie, in units of the distance to it."""


def sample_policies(config: Config, first: int, stop: int) -> dict[str, np.ndarray]:
    """The arrays of a policy shard for trajectories first to stop - 1."""
    simulator = Simulator()
    trajectories = range(first, stop)
    seeds = [reset_seed(config.seed, i) for i in trajectories]
    states = np.stack([simulator.reset(seed) for seed in seeds])
    policies = [
        sample_policy(generator(config.seed, i, Stream.POLICY), state, config.policies, config.dmp)
        for i, state in zip(trajectories, states, strict=True)
    ]
    params = DMPParams(*(np.stack(values) for values in zip(*policies, strict=True)))
    return {
        "trajectory": np.arange(first, stop),
        "seed": np.array(seeds),
        "initial_state": states,
        "from_reset": np.ones(len(states), bool),
        **params._asdict(),
        "condition": params.as_vector(),
    }


def sample_policy(
    random: np.random.Generator, state: np.ndarray, config: PolicyConfig, dmp: DMPConfig
) -> DMPParams:
    """One policy from the agent's own position.

    Args:
        random: the trajectory's own generator.
        state: (7,) initial state: px, px/s, rad.
        config: ranges to sample from.
        dmp: what all policies share.
    """
    # Drawn whether used or not, so that contact_fraction moves no other number.
    duration = random.uniform(*config.duration)
    low, high = np.array([config.goal_x, config.goal_y]).T
    goal = random.uniform(low, high)
    heads_for_block = random.random() < config.contact_fraction
    aim = block_centre(state) + random.normal(0.0, CONTACT_SPREAD, 2)
    overshoot = random.uniform(0.0, MAX_OVERSHOOT)
    if heads_for_block:
        goal = np.clip(aim + overshoot * (aim - state[:2]), low, high)
    stiffness = random.uniform(*config.stiffness)
    return DMPParams(
        duration=np.float64(duration),
        start=state[:2].copy(),
        goal=goal,
        weights=random.uniform(*config.weights, size=(2, dmp.n_basis)),
        stiffness=np.float64(stiffness),
        damping=np.float64(2.0 * random.uniform(*config.damping_ratio) * math.sqrt(stiffness)),
    )


def block_centre(state: np.ndarray) -> np.ndarray:
    """(2,) px: centre of mass of the block in a state."""
    cos, sin = np.cos(state[6]), np.sin(state[6])
    x, y = T_CENTRE
    return state[4:6] + np.array([cos * x - sin * y, sin * x + cos * y])
