"""The file of a plan: JSON that says what was planned, for which state and goal, and with what.

It holds all that executing the push takes, and is held against a schema when it is read.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from nsf_pipeline import label
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.config.planning import Planner
from nsf_pipeline.config.policy_file import JSONSection, Number, Policy, State, parsed, read_json
from nsf_pipeline.data.policy_file import params_of, policy_of
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.planner import Plan
from nsf_pipeline.planning.pushes import Push
from nsf_pipeline.pusht.geometry import WORKSPACE

MOST_BYTES = 1 << 24
"""Of a plan's file."""
AGAIN = "make it again with `nsf plan --output`"

Coordinate = Annotated[float, Field(ge=WORKSPACE[0], le=WORKSPACE[1])]
Point = tuple[Coordinate, Coordinate]


class PlanFile(JSONSection):
    """A plan as its file has it."""

    format: Literal["nsf_pipeline plan"] = "nsf_pipeline plan"
    """What the file is."""
    format_version: Literal[1] = 1
    """Of the file."""
    planner: Planner
    """Which planner found it."""
    model: str = Field(pattern="^[!-~]{1,200}$")
    """The world model's name."""
    state: State
    """px, px/s, rad; where it starts."""
    goal: tuple[Number, Number, Number]
    """px, px, rad; where the block should be."""
    coverage: float = Field(gt=0.0, lt=1.0)
    """The aim; more than this share of the goal's T is to be covered."""
    transit: tuple[Point, ...] = Field(max_length=10_000)
    """px; targets before the DMP, one a control step of 0.1 s."""
    policy: Policy
    """The DMP that follows."""
    dmp: DMPConfig
    """What all DMPs have in common."""
    seconds: float = Field(gt=0.0)
    """s; how long transit and DMP take."""
    cost: Number
    """s; the expected cost."""
    queries: int = Field(ge=0, lt=2**63)
    """How many candidates the model was asked about."""
    predicted: tuple[State, ...] = Field(min_length=1)
    """px, px/s, rad; the model's draws of the state at the end."""

    @classmethod
    def of(
        cls, plan: Plan, state: np.ndarray, goal: Goal, planner: Planner, model: str, dmp: DMPConfig
    ) -> "PlanFile":
        """What there is to say of a plan.

        Args:
            plan: the plan.
            state: (7,) px, px/s, rad; where it starts.
            goal: where the block should be.
            planner: which planner found it.
            model: the world model's name.
            dmp: what all DMPs have in common.

        Raises:
            UserError: a number of it is none that a plan can have: the model predicts that a push
                ends beyond 1e6 px, say; or the goal has a tolerance or is one for the agent too,
                which the file has no place for.
        """
        if goal.agent is not None or goal.tolerance is not None:
            raise UserError(
                "expected a goal of pose and coverage: a plan's file has no place for a tolerance "
                "or the agent's goal"
            )
        fields = {
            "planner": planner,
            "model": model,
            "state": state.tolist(),
            "goal": np.asarray(goal.pose).tolist(),
            "coverage": float(goal.coverage),
            "transit": plan.push.transit.tolist(),
            "policy": policy_of(plan.push.policy).model_dump(mode="json"),
            "dmp": dmp.model_dump(mode="json"),
            "seconds": plan.push.seconds,
            "cost": plan.cost,
            "queries": plan.queries,
            "predicted": plan.considered.ends[0].tolist(),
        }
        try:
            return cls.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            raise UserError(
                f"the plan has no meaning: {label.explained(error)}; plan for another state or "
                "goal, or with another model"
            ) from None

    @property
    def push(self) -> Push:
        """What is to be executed."""
        return Push(np.array(self.transit, float).reshape(-1, 2), params_of(self.policy))

    @property
    def targets(self) -> np.ndarray:
        """(steps, 2) px; the agent's targets, one a control step of 0.1 s."""
        return self.push.targets(self.dmp)


def save_plan(path: Path | str, plan: PlanFile) -> None:
    """Write a plan; what stood there before is replaced only by a whole file.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(Path(path)) as beside:
        beside.write_text(plan.text())


def load_plan(path: Path | str) -> PlanFile:
    """Read a plan.

    Raises:
        FileError: one line: the file cannot be read, or is no plan.
    """
    found = parsed(PlanFile, read_json(path, MOST_BYTES), str(path), "a plan", AGAIN)
    try:
        found.policy.require_basis(found.dmp)
        Goal(np.array(found.goal), found.coverage).meant()
        if found.seconds != found.push.seconds:
            raise ValueError(f"expected seconds of {found.push.seconds:g}, as long as it takes")
    except (UserError, ValueError) as error:
        raise FileError(f"{path}: not a plan of nsf_pipeline: {error}; {AGAIN}") from None
    return found
