"""The file of one policy: JSON with a state of PushT and the DMP that starts there.

The explorer writes such files, and `policies.given` names files whose policies begin a data set.
"""

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from nsf_pipeline import label
from nsf_pipeline.config import DMPConfig, Policy, PolicyFile
from nsf_pipeline.config.policy_file import MOST_BYTES
from nsf_pipeline.config.section import Section
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.files import FileError, read_file, replacing

Read = TypeVar("Read", bound=Section)


def policy_of(params: DMPParams) -> Policy:
    """The parameters of one policy, as a file has them."""
    lists = {name: np.asarray(values).tolist() for name, values in params._asdict().items()}
    return Policy.model_validate_json(json.dumps(lists))


def params_of(policy: Policy) -> DMPParams:
    """The inverse of `policy_of`."""
    return DMPParams(**{name: np.asarray(value) for name, value in policy})


def policy_file(state: np.ndarray, params: DMPParams, dmp: DMPConfig) -> PolicyFile:
    """A policy that starts in a state (7,): px, px/s, rad."""
    return PolicyFile(state=tuple(state.tolist()), policy=policy_of(params), dmp=dmp)


def save_policy(path: Path | str, file: PolicyFile) -> None:
    """Write a policy; what stood there before is replaced only by a whole file.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(Path(path)) as beside:
        beside.write_text(file.text())


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
