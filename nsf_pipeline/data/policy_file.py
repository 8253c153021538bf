"""The file of one policy: JSON with a state of PushT and the DMP that starts there.

The explorer writes such files, and `policies.given` names files whose policies begin a data set.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError, model_validator

from nsf_pipeline import label
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.config.section import MAX_DURATION, Section
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.files import FileError, read_file, replacing
from nsf_pipeline.pusht.simulator import FARTHEST
from nsf_pipeline.pusht.state import STATE

MOST_BYTES = 1 << 16
"""Of a policy's file."""
MOST_NOISE = 256.0
"""px; no noise on actions is greater."""
APART = 1e-6
"""px; the DMP starts where the agent is, up to this."""

Number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
State = tuple[Number, Number, Number, Number, Number, Number, Number]
Weights = Annotated[tuple[Number, ...], Field(min_length=1, max_length=64)]
Read = TypeVar("Read", bound=Section)


class Policy(Section):
    """The parameters of a DMP."""

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
    """px; the noise on the actions."""

    @classmethod
    def of(cls, params: DMPParams) -> "Policy":
        """The parameters of one policy."""
        lists = {name: np.asarray(values).tolist() for name, values in params._asdict().items()}
        return cls.model_validate_json(json.dumps(lists))

    @property
    def params(self) -> DMPParams:
        """The same as arrays."""
        return DMPParams(**{name: np.asarray(value) for name, value in self})

    def require_basis(self, dmp: DMPConfig) -> None:
        """Check that there are as many weights as the settings have basis functions.

        Raises:
            ValueError: there are not.
        """
        counts = sorted({len(weights) for weights in self.weights})
        if counts != [dmp.n_basis]:
            raise ValueError(
                f"expected {dmp.n_basis} weights for x and for y, as dmp.n_basis says, got "
                f"{' and '.join(map(str, counts))}"
            )


class JSONSection(Section):
    """A section that is a file of its own."""

    def text(self) -> str:
        """As JSON, a line for each field."""
        lines = [f"  {json.dumps(name)}: {json.dumps(v)}" for name, v in self.model_dump().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


class PolicyFile(JSONSection):
    """A policy and the state that it starts in, as its file has them."""

    format: Literal["nsf_pipeline policy"] = "nsf_pipeline policy"
    """What the file is."""
    format_version: Literal[1] = 1
    """Of the file."""
    state: State
    """px, px/s, rad; where it starts."""
    policy: Policy
    """The DMP, which starts where the agent is."""
    dmp: DMPConfig
    """What all DMPs have in common."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PolicyFile":
        self.policy.require_basis(self.dmp)
        agent, start = self.start[STATE.agent], np.array(self.policy.start)
        if np.abs(agent - start).max() > APART:
            raise ValueError(
                f"the policy starts at {start.tolist()} px, but the agent is at {agent.tolist()} px"
            )
        return self

    @classmethod
    def of(cls, state: np.ndarray, params: DMPParams, dmp: DMPConfig) -> "PolicyFile":
        """A policy that starts in a state (7,): px, px/s, rad."""
        return cls(state=tuple(state.tolist()), policy=Policy.of(params), dmp=dmp)

    @property
    def start(self) -> np.ndarray:
        """(7,) px, px/s, rad; the state that it starts in."""
        return np.array(self.state)


def save_policy(path: Path | str, policy: PolicyFile) -> None:
    """Write a policy; what stood there before is replaced only by a whole file.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(Path(path)) as beside:
        beside.write_text(policy.text())


def load_policy(path: Path | str) -> PolicyFile:
    """Read a policy.

    Raises:
        FileError: one line: the file cannot be read, or is no policy.
    """
    return parse_policy(read_json(path, MOST_BYTES), str(path))


def parse_policy(content: bytes, name: str) -> PolicyFile:
    """A policy from the bytes of its file.

    Args:
        content: the bytes.
        name: of the file, for messages.

    Raises:
        FileError: one line: it is no policy.
    """
    return parsed(PolicyFile, content, name, "a policy", "save it again in `nsf explore`")


def read_json(path: Path | str, most: int) -> bytes:
    """The bytes of a small file.

    Raises:
        FileError: one line: it cannot be read, or has more than `most` bytes.
    """
    try:
        return read_file(path, most)
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}") from None


def parsed(kind: type[Read], content: bytes, name: str, what: str, remedy: str) -> Read:
    """The bytes of a file held against a schema.

    Args:
        kind: the schema.
        content: the bytes, JSON.
        name: of the file, for messages.
        what: the file is, in words.
        remedy: what to do if it is not.

    Raises:
        FileError: one line: it is not.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise FileError(
            f"{name}: not {what} of nsf_pipeline: {label.explained(error)}; {remedy}"
        ) from None
