"""The file of one policy, from and to arrays; `config.policy_file` has its schema and reads it.

The explorer writes such files, and `policies.given` names files whose policies begin a data set.
"""

import json
from pathlib import Path

import numpy as np

from nsf_pipeline.config import DMPConfig, Policy, PolicyFile
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.files import replacing
from nsf_pipeline.pusht.state import STATE


def policy_of(params: DMPParams) -> Policy:
    """The parameters of one policy, as a file has them."""
    lists = {name: np.asarray(values).tolist() for name, values in params._asdict().items()}
    return Policy.model_validate_json(json.dumps(lists))


def params_of(policy: Policy) -> DMPParams:
    """The inverse of `policy_of`."""
    return DMPParams(**{name: np.asarray(value) for name, value in policy})


def start_of(file: PolicyFile) -> np.ndarray:
    """(7,) the state in which a policy starts: px, px/s, rad."""
    return np.array(file.state)


def policy_file(state: np.ndarray, params: DMPParams, dmp: DMPConfig) -> PolicyFile:
    """A policy that starts in a state (7,): px, px/s, rad; its DMP starts where the agent is."""
    policy = policy_of(params._replace(start=state[STATE.agent]))
    return PolicyFile(state=tuple(state.tolist()), policy=policy, dmp=dmp)


def save_policy(path: Path | str, file: PolicyFile) -> None:
    """Write a policy; what stood there before is replaced only by a whole file.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(Path(path)) as beside:
        beside.write_text(file.text())
