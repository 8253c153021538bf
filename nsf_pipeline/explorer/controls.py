"""What the sliders stand for, and the policies that they can be set to at once."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsf_pipeline.config import DMPConfig, PolicyConfig, PolicyFile
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_noise_std, sample_policy
from nsf_pipeline.data.policy_file import policy_file, start_of
from nsf_pipeline.data.recording import one_trajectory
from nsf_pipeline.data.scenes import require_known_to_models
from nsf_pipeline.dmp import FIXED_SCALE, DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

DECIMALS = 3
"""Values are rounded to so many: sliders show what they hold."""
SPEED = 600.0
"""px/s; the sliders' greatest velocity along an axis."""


class Slider(NamedTuple):
    """One slider.

    Attributes:
        label: the text beside it, with the unit.
        low: its least value.
        high: its greatest value.
        step: from one value to the next.
    """

    label: str
    low: float
    high: float
    step: float


Values = dict[str, float]
"""What the sliders hold, by their names."""

POLICY = {
    "start_x": Slider("start x (px)", 25.0, 487.0, 1.0),
    "start_y": Slider("start y (px)", 25.0, 487.0, 1.0),
    "goal_x": Slider("goal x (px)", 25.0, 487.0, 1.0),
    "goal_y": Slider("goal y (px)", 25.0, 487.0, 1.0),
    "duration": Slider("duration (s)", 0.2, 4.0, 0.1),
    "stiffness": Slider("stiffness K", 5.0, 200.0, 1.0),
    "damping": Slider("damping D", 0.0, 60.0, 0.1),
}
"""Of the DMP, apart from its weights; stiffness in 1 / duration^2, damping in 1 / duration."""
TABLE = {
    "block_x": Slider("block x (px)", 50.0, 462.0, 1.0),
    "block_y": Slider("block y (px)", 50.0, 462.0, 1.0),
    "block_angle": Slider("block angle (°)", -180.0, 180.0, 1.0),
    "velocity_x": Slider("agent velocity x (px/s)", -SPEED, SPEED, 1.0),
    "velocity_y": Slider("agent velocity y (px/s)", -SPEED, SPEED, 1.0),
    "noise": Slider("noise on actions (px)", 0.0, 32.0, 0.5),
}
"""Of where things are, and how exactly the agent follows the policy."""


def weights(dmp: DMPConfig) -> dict[str, Slider]:
    """One for each weight, w_x_1 first, all with one range however the forcing is scaled."""
    return {
        f"w_{axis}_{number + 1}": Slider(f"w {axis} {number + 1}", -2.0, 2.0, 0.05)
        for axis in "xy"
        for number in range(dmp.n_basis)
    }


def sliders(file: PolicyFile) -> dict[str, tuple[Slider, float]]:
    """All sliders, each with a range that holds its value, and that value, for a policy."""
    values, known = values_of(file), POLICY | weights(file.dmp) | TABLE
    found = {}
    for name, slider in known.items():
        value = values[name]
        low, high = min(slider.low, value), max(slider.high, value)
        found[name] = slider._replace(low=low, high=high), value
    return found


def with_scaling(dmp: DMPConfig, by_goal_delta: bool) -> DMPConfig:
    """The same settings, with the forcing scaled by goal - start or by a fixed length."""
    return dmp.model_copy(update={"scale_forcing_by_goal_delta": by_goal_delta})


def policy_of(values: Values, dmp: DMPConfig) -> PolicyFile:
    """The policy and state that sliders stand for."""
    at = values.__getitem__
    start = [at("start_x"), at("start_y")]
    params = DMPParams(
        duration=np.asarray(at("duration")),
        start=np.array(start),
        goal=np.array([at("goal_x"), at("goal_y")]),
        weights=np.array([at(name) for name in weights(dmp)]).reshape(2, dmp.n_basis),
        stiffness=np.asarray(at("stiffness")),
        damping=np.asarray(at("damping")),
        action_noise_std=np.asarray(at("noise")),
    )
    block = [at("block_x"), at("block_y"), float(np.deg2rad(at("block_angle")))]
    state = STATE.join(start, [at("velocity_x"), at("velocity_y")], block)
    return policy_file(state, params, dmp)


def values_of(file: PolicyFile) -> Values:
    """What the sliders hold for a policy and state, rounded to `DECIMALS`."""
    policy, state = file.policy, start_of(file)
    given = [value for axis in policy.weights for value in axis]
    (velocity_x, velocity_y), (x, y, angle) = state[STATE.planes[1]], state[STATE.block]
    # The block looks the same after a whole turn. Both -180 and 180 stay as they are.
    degrees = math.remainder(float(np.rad2deg(angle)), 360.0)
    found = {
        "start_x": policy.start[0],
        "start_y": policy.start[1],
        "goal_x": policy.goal[0],
        "goal_y": policy.goal[1],
        "duration": policy.duration,
        "stiffness": policy.stiffness,
        "damping": policy.damping,
        **dict(zip(weights(file.dmp), given, strict=True)),
        "block_x": x,
        "block_y": y,
        "block_angle": degrees,
        "velocity_x": velocity_x,
        "velocity_y": velocity_y,
        "noise": policy.action_noise_std,
    }
    return {name: round(float(value), DECIMALS) for name, value in found.items()}


def normalised(pixels: float) -> float:
    """A coordinate in the control space [-1, 1], whose unit is 256 px and whose 0 is the centre."""
    return (pixels - FIXED_SCALE) / FIXED_SCALE


USUAL = {
    "start_x": 400.0,
    "start_y": 112.0,
    "goal_x": 267.0,
    "goal_y": 245.0,
    "duration": 2.0,
    "stiffness": 50.0,
    "damping": 14.142,
    "block_x": 330.0,
    "block_y": 182.0,
    "block_angle": 45.0,
    "noise": 4.0,
}
"""A straight push that brings the block into the goal; what is left out is 0."""
CURVED = {
    "start_x": 440.0,
    "start_y": 330.0,
    "goal_x": 242.0,
    "goal_y": 227.0,
    "duration": 2.5,
    "w_x_1": -1.0,
    "w_x_2": -0.85,
    "w_x_3": 0.8,
    "w_x_4": -1.1,
    "w_x_5": 1.15,
    "w_x_6": -2.0,
    "w_y_1": 2.0,
    "w_y_2": 1.95,
    "w_y_3": -1.7,
    "w_y_4": -1.25,
    "w_y_5": 0.15,
    "w_y_6": -0.35,
}
HOOK = {
    "start_x": 51.0,
    "start_y": 68.0,
    "goal_x": 294.0,
    "goal_y": 275.0,
    "duration": 3.5,
    "stiffness": 111.0,
    "damping": 21.0,
    "w_x_1": 1.9,
    "w_x_2": -0.05,
    "w_x_3": -0.35,
    "w_x_4": -2.0,
    "w_x_5": 1.75,
    "w_x_6": 1.0,
    "w_y_1": -2.0,
    "w_y_2": 0.25,
    "w_y_3": -2.0,
    "w_y_4": -0.8,
    "w_y_5": 0.6,
    "w_y_6": 1.8,
    "block_x": 310.0,
    "block_y": 202.0,
}
"""These were found by a search; other numbers of basis functions leave some of the weights out."""


def straight(dmp: DMPConfig) -> PolicyFile:
    """A straight push; what the page starts with."""
    return _preset(dmp, {})


def curved(dmp: DMPConfig) -> PolicyFile:
    """An arc onto the block."""
    return _preset(dmp, CURVED)


def hook(dmp: DMPConfig) -> PolicyFile:
    """Round the T, and onto it from the other side."""
    return _preset(dmp, HOOK)


def _preset(dmp: DMPConfig, changes: Values) -> PolicyFile:
    names = (*POLICY, *weights(dmp), *TABLE)
    return policy_of({name: (USUAL | changes).get(name, 0.0) for name in names}, dmp)


def at_random(seed: int, dmp: DMPConfig, config: PolicyConfig) -> PolicyFile:
    """A policy drawn as those of the data are, from the environment's reset with that seed."""
    state, random = Simulator().reset(seed), np.random.default_rng(seed)
    noise = sample_noise_std(random, config)
    return policy_file(state, sample_policy(random, state, config, dmp, noise), dmp)


def of_trajectory(dataset: Path, number: int | float | None) -> PolicyFile:
    """A trajectory of a data set, by its number; None if no number is given.

    Raises:
        UserError: no number is given.
        FileError: the data set cannot be read, or does not hold it.
    """
    if number is None:
        raise UserError("trajectory: expected its number, got none")
    with store.reading(dataset, "dataset") as file:
        dmp = DMPConfig.model_validate_json(json.dumps(store.record_of(file).settings["dmp"]))
        require_known_to_models(file, str(dataset))
        found = one_trajectory(dataset, file, int(number))
    state = found["initial_state"][0].astype(np.float64)
    return policy_file(state, DMPParams.from_vector(found["condition"][0].astype(np.float64)), dmp)
