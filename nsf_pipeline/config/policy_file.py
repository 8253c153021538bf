"""One policy with the state that it starts in: a small JSON file, and an entry of `policies.given`.

Numbers as they stand in the file; `nsf_pipeline.data.policy_file` has them as arrays. Whoever reads
the file, it is held against its schema.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from nsf_pipeline import label
from nsf_pipeline.config.dmp import DMPConfig
from nsf_pipeline.config.section import MAX_DURATION, Section
from nsf_pipeline.files import FileError, read_file

FARTHEST = 1e6
"""px, px/s, rad, and units of stiffness and damping: no number is farther from 0."""
LEAST = 1e-3
"""s, and units of stiffness: what is above 0 is at least this; the explorer has three decimals."""
MOST_NOISE = 256.0
"""px; no noise on actions is greater."""
MOST_BYTES = 1 << 16
"""Of a policy's file."""
APART = 1e-6
"""px; the DMP starts where the agent is, up to this."""

Number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
State = tuple[Number, Number, Number, Number, Number, Number, Number]
Read = TypeVar("Read", bound=Section)
Weights = Annotated[tuple[Number, ...], Field(min_length=1, max_length=64)]


class Policy(Section):
    """The parameters of a DMP."""

    duration: float = Field(ge=LEAST, le=MAX_DURATION)
    """s."""
    start: tuple[Number, Number]
    """px."""
    goal: tuple[Number, Number]
    """px."""
    weights: tuple[Weights, Weights]
    """Of x and of y, in units of the forcing's scale."""
    stiffness: float = Field(ge=LEAST, le=FARTHEST)
    """1 / duration^2."""
    damping: float = Field(ge=0.0, le=FARTHEST)
    """1 / duration."""
    action_noise_std: float = Field(ge=0.0, le=MOST_NOISE)
    """px; the noise on the actions."""

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
    """A policy and the state that it starts in."""

    format: Literal["nsf_pipeline policy"] = "nsf_pipeline policy"
    """What the file is."""
    format_version: Literal[1] = 1
    """Of the file."""
    state: State
    """Agent x, y (px), agent velocity x, y (px/s), block x, y (px), angle (rad)."""
    policy: Policy
    """The DMP, which starts where the agent is."""
    dmp: DMPConfig
    """What all DMPs have in common."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PolicyFile":
        self.policy.require_basis(self.dmp)
        (x, y, *_), (start_x, start_y) = self.state, self.policy.start
        if max(abs(x - start_x), abs(y - start_y)) > APART:
            raise ValueError(
                f"the policy starts at {start_x:g}, {start_y:g} px, but the agent is at {x:g}, "
                f"{y:g} px"
            )
        return self


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
        # By way of a mapping, which has each name once.
        found = kind.model_validate_json(json.dumps(label.mapping(content)))
    except label.LabelError as error:
        reason = str(error)
    except ValidationError as error:
        reason = label.explained(error)
    else:
        # A default in the place of what the file lacks would be something else.
        lacking = _lacking(found)
        if not lacking:
            return found
        reason = f"expected {lacking}, found none"
    raise FileError(f"{name}: not {what} of nsf_pipeline: {reason}; {remedy}")


def _lacking(section: Section) -> str:
    """The name of a field that was not given; empty if there is none."""
    fields = type(section).model_fields.keys()
    inner = (_lacking(part) for _, part in section if isinstance(part, Section))
    return next(filter(None, [*sorted(fields - section.model_fields_set), *inner]), "")
