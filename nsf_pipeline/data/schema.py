"""The schema of each kind of HDF5 file: its arrays, their axes, types, units and ranges."""

import math
from collections.abc import Container
from typing import NamedTuple

from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY, StateLayout

SCHEMA_VERSION = 3
LARGEST = 1e6
"""No number of PushT's is as large, in any unit; a file that holds a larger one is not sound."""
LARGEST_SCALED = 1e9
"""The same for scaled arrays: numbers outside the train split may lie far outside [-1, 1]."""
ABOVE_ZERO = math.ulp(0.0)
"""The lower bound of numbers that must be above 0."""
MAX_SECONDS = 60.0
"""s; the longest trajectory that settings allow."""


class Field(NamedTuple):
    """One array: its axes after the trajectory's, type, unit, meaning and range.

    Axes are numbers or names: "T" control steps, "T+1" states, "B" basis functions, "C" the DMP
    vector's length, "M" members, "E" members that are also entered, "S" steps of an episode.
    `scaled` arrays are scaled to [-1, 1] in `dataset.h5`. All numbers lie between `low` and `high`,
    which may be the name of an axis; so all of them are finite.
    """

    axes: tuple[int | str, ...]
    dtype: str
    unit: str
    meaning: str
    scaled: bool = False
    low: float = -LARGEST
    high: float | str = LARGEST

    @property
    def range(self) -> str:
        """The range in words; empty for truth values and where only the size is limited."""
        if self.dtype == "bool" or (self.low, self.high) in (
            (-LARGEST, LARGEST),
            (-LARGEST_SCALED, LARGEST_SCALED),
        ):
            return ""
        low = "above 0" if self.low == ABOVE_ZERO else f"{self.low:g}"
        if not isinstance(self.high, str) and self.high >= LARGEST:
            return low if self.low == ABOVE_ZERO else f"{low} or more"
        high = self.high if isinstance(self.high, str) else f"{self.high:g}"
        return f"{low}{',' * (self.low == ABOVE_ZERO)} to {high}"


def state_field(
    layout: StateLayout, dtype: str, meaning: str, *axes: int | str, scaled: bool = False
) -> Field:
    """States of a layout along some axes."""
    unit = ", ".join(dict.fromkeys(layout.units))
    return Field((*axes, layout.dim), dtype, unit, meaning, scaled)


TRAJECTORY = Field((), "int64", "1", "index in the whole data set", low=0, high=2.0**63)
SEED = Field((), "int64", "1", "seed of env.reset", low=0, high=2.0**63)
INITIAL_STATE = state_field(STATE, "float64", STATE.meaning, scaled=True)
FROM_RESET = Field((), "bool", "1", "the state of env.reset(seed); false: entered directly")
ACTION_NOISE_STD = Field(
    (), "float64", "px", "standard deviation of the noise on each target", low=0.0
)
CONDITION = Field(("C",), "float64", "mixed", "the packed DMP vector", scaled=True)

POLICIES: dict[str, Field] = {
    "trajectory": TRAJECTORY,
    "seed": SEED,
    "initial_state": INITIAL_STATE,
    "from_reset": FROM_RESET,
    "duration": Field((), "float64", "s", "length of the policy", low=ABOVE_ZERO, high=MAX_SECONDS),
    "start": Field((2,), "float64", "px", "first desired position"),
    "goal": Field((2,), "float64", "px", "last desired position"),
    "weights": Field((2, "B"), "float64", "1", "forcing weights"),
    "stiffness": Field((), "float64", "1/duration^2", "K", low=ABOVE_ZERO),
    "damping": Field((), "float64", "1/duration", "D", low=0.0),
    "action_noise_std": ACTION_NOISE_STD,
    "condition": CONDITION,
}

ROLLOUTS: dict[str, Field] = {
    "trajectory": TRAJECTORY,
    "seed": SEED,
    "initial_state": INITIAL_STATE,
    "from_reset": FROM_RESET,
    "action_noise_std": ACTION_NOISE_STD,
    "condition": CONDITION,
    "observations": state_field(
        STATE_WITHOUT_VELOCITY,
        "float32",
        f"{STATE_WITHOUT_VELOCITY.meaning} in [0, 2 pi)",
        "T+1",
        scaled=True,
    ),
    "agent_velocity": Field(("T+1", 2), "float32", "px/s", "agent velocity", scaled=True),
    "block_angle": Field(("T+1",), "float32", "rad", "continuous angle, not wrapped", scaled=True),
    "block_velocity": Field(
        ("T+1", 3),
        "float32",
        "px/s, rad/s",
        "velocity x, y of the block's centre of mass, angular velocity",
        scaled=True,
    ),
    "targets": Field(("T", 2), "float32", "px", "the DMP's desired positions", scaled=True),
    "actions": Field(("T", 2), "float32", "px", "what the environment was given", scaled=True),
    "rewards": Field(("T",), "float32", "1", "reward of each step", low=0.0, high=1.0),
    "coverage": Field(
        ("T",), "float32", "1", "share of the goal covered after each step", low=0.0, high=1.0
    ),
    "observation_mask": Field(("T+1",), "bool", "1", "true where a state was reached"),
    "action_mask": Field(("T",), "bool", "1", "true where a step was taken"),
    "state_times": Field(("T+1",), "float32", "s", "time of each state", low=0.0, high=MAX_SECONDS),
    "action_times": Field(
        ("T",), "float32", "s", "time at which each action starts", low=0.0, high=MAX_SECONDS
    ),
    "length": Field((), "int32", "steps", "steps taken", low=1, high="T"),
    "success": Field((), "bool", "1", "coverage exceeded 0.95"),
}

DATASET: dict[str, Field] = {
    name: field._replace(dtype="float64", low=-LARGEST_SCALED, high=LARGEST_SCALED)
    if field.scaled
    else field
    for name, field in ROLLOUTS.items()
} | {"split": Field((), "uint8", "1", "0 train, 1 validation, 2 test", low=0, high=2)}

BLOCK_VELOCITY = Field((3,), "float64", "px/s, rad/s", "")

SCENES: dict[str, Field] = {
    "factors": Field(
        ("F",),
        "float64",
        "1, px, rad",
        "scale of the block, radius of the agent, goal x, y, angle, least and greatest coordinate "
        "within the walls",
    )
}
"""An array that policies, rollouts and data sets have only if a scene may differ from gym-pusht's.
"""

ENSEMBLES: dict[str, Field] = {
    "horizon_s": Field(
        (),
        "float64",
        "s",
        "from the state to its truth and members",
        low=ABOVE_ZERO,
        high=MAX_SECONDS,
    ),
    "trajectory": TRAJECTORY,
    "step": Field((), "int32", "steps", "control step of the state", low=0),
    "state": state_field(STATE, "float64", "where the members start"),
    "truth": state_field(STATE, "float64", "the trajectory's own state a horizon later"),
    "block_velocity": BLOCK_VELOCITY._replace(meaning="of the state's block"),
    "truth_block_velocity": BLOCK_VELOCITY._replace(meaning="of the truth's block"),
    "members": state_field(STATE, "float32", "the same with fresh action noise", "M"),
    "members_7": state_field(
        STATE, "float32", "the first members, entered at the state's seven numbers", "E"
    ),
    "members_10": state_field(
        STATE, "float32", "the first members, entered at these and the block's velocity", "E"
    ),
    "contact": Field((), "bool", "1", "the policy without noise moves the block in the horizon"),
    "weight": Field(
        (), "float64", "1", "in means over all states of the horizon; 1 on average", low=0.0
    ),
    "condition": Field(("C",), "float64", "mixed", "the packed DMP vector"),
}

THRESHOLDS = (0.95, 0.97, 0.98, 0.99)
"""Coverages that episodes are asked to exceed; an environment's success is the first."""
HELD = 10
"""Steps in a row for which a coverage has to be exceeded, where it is to last."""
DISTURBANCES = 2
"""Times that the block is moved in an episode, at most."""
NEVER = -1
"""In place of a step that was not reached."""
FIRST_STEP = Field((len(THRESHOLDS),), "int32", "steps", "", low=NEVER, high="S")

EPISODES: dict[str, Field] = {
    "episode": Field((), "int64", "1", "number of the episode", low=0, high=2.0**63),
    "seed": SEED,
    "initial_state": state_field(STATE, "float64", STATE.meaning),
    "length": Field((), "int32", "steps", "steps taken", low=1, high="S"),
    "targets": Field(("S", 2), "float32", "px", "the chosen pushes' desired positions"),
    "actions": Field(("S", 2), "float32", "px", "what the environment was given"),
    "coverage": Field(
        ("S",), "float64", "1", "the environment's coverage after each step", low=0.0, high=1.0
    ),
    "block_pose": Field(
        ("S", 3), "float64", "px, rad", "the block's x, y and angle after each step"
    ),
    "push": Field(("S",), "int32", "1", "number of the push that a step belongs to", low=NEVER),
    "predicted": Field(
        ("S", 3),
        "float64",
        "px, rad",
        "mean pose of the block that the model predicted for the end of the push",
    ),
    "first_step": FIRST_STEP._replace(
        meaning="step after which each threshold was first exceeded, from 1; -1: never"
    ),
    "first_held": FIRST_STEP._replace(
        meaning=f"the same where it was exceeded after {HELD} steps in a row: the last of these"
    ),
    "disturbed_step": Field(
        (DISTURBANCES,),
        "int32",
        "steps",
        "steps taken when the block was moved; -1: not",
        low=NEVER,
        high="S",
    ),
    "disturbed_pose": Field(
        (DISTURBANCES, 3), "float64", "px, rad", "the pose that the block was moved to"
    ),
    "pushes": Field((), "int32", "1", "pushes that were chosen", low=0),
    "queries": Field(
        (), "int64", "1", "predictions that the planner asked for", low=0, high=2.0**63
    ),
}

TOLERANCES = ((8.0, 8.0), (4.0, 4.0), (2.0, 2.0))
"""px and degrees: of the block's centre of mass, and of its angle, from a pose that it should take.
"""
SHARES = Field((len(TOLERANCES),), "float64", "1", "", low=0.0, high=1.0)

PUSHES: dict[str, Field] = {
    "task": Field((), "int64", "1", "number of the task", low=0, high=2.0**63),
    "trajectory": TRAJECTORY,
    "step": Field((), "int32", "steps", "control step of the state", low=0),
    "state": state_field(STATE, "float64", "where the push starts"),
    "goal": Field((3,), "float64", "px, rad", "the pose that the block should take"),
    "cost": Field((), "float64", "s", "the chosen push's, as the model expects it"),
    "condition": Field(("C",), "float64", "mixed", "the chosen push, as a packed DMP vector"),
    "reached": SHARES._replace(
        meaning="share of the noisy runs that end within each tolerance of the goal"
    ),
    "promised": SHARES._replace(meaning="the same of new draws of the model's"),
    "promised_at_choice": SHARES._replace(
        meaning="the same of the draws by which the model chose the push"
    ),
}

GOAL_HELD = 5
"""Steps in a row for which the block has to lie at a goal, where it is to last."""
SOLVED = Field((), "int32", "steps", "", low=NEVER, high="S")

GOALS: dict[str, Field] = {
    "task": Field((), "int64", "1", "number of the task", low=0, high=2.0**63),
    "trajectory": TRAJECTORY,
    "step": Field((), "int32", "steps", "control step of the state", low=0),
    "state": state_field(STATE, "float64", "where the task starts"),
    "goal": state_field(STATE, "float64", "the state to reach, some steps later"),
    "length": Field((), "int32", "steps", "steps taken", low=1, high="S"),
    "actions": Field(("S", 2), "float32", "px", "what the environment was given"),
    "both_step": SOLVED._replace(
        meaning="step after which agent and block were first at the goal, from 1; -1: never"
    ),
    "block_step": SOLVED._replace(
        meaning=f"step after which the block was first at the goal for {GOAL_HELD} steps in a row: "
        "the last of these; -1: never"
    ),
    "queries": EPISODES["queries"],
}

NUMBERS = {"episodes": "episode", "pushes": "task", "goals": "task"}
"""By kind, the array that numbers its rows where it is not `trajectory`."""

MASKS: dict[int | str, str] = {"T": "action_mask", "T+1": "observation_mask"}
"""By axis, the mask that is false past a trajectory's length."""

SCHEMAS = {
    "policies": POLICIES,
    "rollouts": ROLLOUTS,
    "dataset": DATASET,
    "ensembles": ENSEMBLES,
    "episodes": EPISODES,
    "pushes": PUSHES,
    "goals": GOALS,
}


def fields_of(kind: str, arrays: Container[str]) -> dict[str, Field]:
    """The arrays that a file of a kind has.

    Args:
        kind: of file.
        arrays: names of those that there are, or of axes.
    """
    varies = kind in ("policies", "rollouts", "dataset") and ("factors" in arrays or "F" in arrays)
    return SCHEMAS[kind] | SCENES if varies else SCHEMAS[kind]


ATTRIBUTES: dict[str, type] = {
    "schema": str,
    "schema_version": int,
    "stage": str,
    "fingerprint": str,
    "variant": str,
    "config": dict,
    "modules": dict,
    "versions": dict,
    "dt": float,
    "first": int,
    "stop": int,
    "metadata": dict,
    "parts": dict,
    "row": dict,
}
"""The attributes that a file may have, and their types. A `dict` is stored as JSON."""
