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
from nsf_pipeline.config.section import MAX_DURATION, Section
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError, read_file, replacing
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.planner import Plan
from nsf_pipeline.planning.pushes import MOST_NOISE, Push
from nsf_pipeline.pusht.geometry import WORKSPACE

MOST_BYTES = 1 << 24
"""Of a plan's file."""
FARTHEST = 1e6

Coordinate = Annotated[float, Field(ge=WORKSPACE[0], le=WORKSPACE[1])]
Point = tuple[Coordinate, Coordinate]
Number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
State = tuple[Number, Number, Number, Number, Number, Number, Number]
Weights = Annotated[tuple[Number, ...], Field(min_length=1, max_length=64)]


class Policy(Section):
    """The parameters of a push's DMP."""

    duration: float = Field(gt=0.0, le=MAX_DURATION)
    """s."""
    start: tuple[Number, Number]
    """px."""
    goal: tuple[Number, Number]
    """px."""
    weights: tuple[Weights, Weights]
    """Of x and of y, in units of the forcing's scale."""
    stiffness: float = Field(gt=0.0, le=FARTHEST)
    """1 / duration^2."""
    damping: float = Field(ge=0.0, le=FARTHEST)
    """1 / duration."""
    action_noise_std: float = Field(ge=0.0, le=MOST_NOISE)
    """px; the noise on the actions that was planned for."""


class PlanFile(Section):
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
                ends beyond 1e6 px, say.
        """
        lists = {
            name: np.asarray(values).tolist() for name, values in plan.push.policy._asdict().items()
        }
        fields = {
            "planner": planner,
            "model": model,
            "state": state.tolist(),
            "goal": np.asarray(goal.pose).tolist(),
            "coverage": float(goal.coverage),
            "transit": plan.push.transit.tolist(),
            "policy": lists,
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
        policy = {name: np.asarray(value) for name, value in self.policy}
        transit = np.array(self.transit, float).reshape(-1, 2)
        return Push(transit, DMPParams(**policy))

    @property
    def targets(self) -> np.ndarray:
        """(steps, 2) px; the agent's targets, one a control step of 0.1 s."""
        return self.push.targets(self.dmp)

    def text(self) -> str:
        """As JSON, a line for each field."""
        lines = [f"  {json.dumps(name)}: {json.dumps(v)}" for name, v in self.model_dump().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


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
    try:
        return _parsed(read_file(path, MOST_BYTES))
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}") from None
    except (label.LabelError, UserError) as error:
        raise FileError(
            f"{path}: not a plan of nsf_pipeline: {error}; make it again with `nsf plan --output`"
        ) from None


def _parsed(text: bytes) -> PlanFile:
    """A plan from its text; a LabelError or UserError if it contradicts the schema or itself."""
    fields = label.mapping(text)
    try:
        found = PlanFile.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise label.LabelError(label.explained(error)) from None
    # A default in the place of what the file lacks would be another plan.
    for section, given in ((PlanFile, found), (DMPConfig, found.dmp)):
        if lacking := section.model_fields.keys() - given.model_fields_set:
            raise label.LabelError(f"expected {min(lacking)}, found none")
    Goal(np.array(found.goal), found.coverage).meant()
    bases = {len(weights) for weights in found.policy.weights}
    if bases != {found.dmp.n_basis}:
        raise label.LabelError(
            f"expected {found.dmp.n_basis} weights for x and for y, as dmp.n_basis says, got "
            f"{' and '.join(map(str, sorted(bases)))}"
        )
    if found.seconds != found.push.seconds:
        raise label.LabelError(f"expected seconds of {found.push.seconds:g}, as long as it takes")
    return found
