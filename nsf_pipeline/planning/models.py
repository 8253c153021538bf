"""World models: what planners ask where pushes end, all behind one interface.

The flow and its variants in one pass, with some draws or with the one draw that has no noise; the
same one control step at a time; the nominal push, which is physics without learning; and the
simulator itself.
"""

from typing import Any, Protocol, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model.nominal import nominal_motion
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning.pushes import policy_steps
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT

CHUNK = 256
"""Candidates predicted at once: one compilation serves all calls, and memory is bounded."""


class WorldModel(Protocol):
    """Predicts where pushes end."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def dmp(self) -> DMPConfig:
        """What all DMPs have in common."""

    def predict(self, states: np.ndarray, policies: DMPParams, *, key: PRNGKeyArray) -> np.ndarray:
        """Draws of the states at the end of policies, after whole control steps.

        Args:
            states: (n, 7) px, px/s, rad, where each policy starts.
            policies: the policies, with one leading axis n.
            key: for the draws: one key, or (n) keys, one for each row.

        Returns:
            (n, draws, 7) px, px/s, rad.
        """


@final
class Nominal:
    """The agent's nominal path and the nominal push: physics without noise and without learning.

    One draw.
    """

    def __init__(self, config: DMPConfig) -> None:
        self.name, self.dmp = "nominal", config

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: PRNGKeyArray) -> np.ndarray:
        """See `WorldModel.predict`; the key is not used."""
        return _in_chunks(_nominal, self.dmp, states, policies, key)


def _in_chunks(
    function: Any, given: Any, states: np.ndarray, policies: DMPParams, key: PRNGKeyArray
) -> np.ndarray:
    """A compiled function's result for all candidates, a chunk at a time.

    Args:
        function: takes what is given, and of a chunk the states, the policies' ends (s), the packed
            policies and the keys; returns an array with a row for each.
        given: its first argument.
        states: (n, dim) px, px/s, rad.
        policies: with one leading axis n.
        key: as for `WorldModel.predict`.
    """
    count = len(states)
    keys = key if jnp.ndim(key) else jax.random.split(key, count)
    rows = (
        states.astype(np.float32),
        (CONTROL_DT * policy_steps(policies)).astype(np.float32),
        policies.as_vector().astype(np.float32),
        np.asarray(jax.random.key_data(keys)),
    )
    results = []
    for first in range(0, count, CHUNK):
        # The last chunk is padded with the last candidate.
        places = np.minimum(np.arange(first, first + CHUNK), count - 1)
        results.append(function(given, *(values[places] for values in rows)))
    return np.concatenate([np.asarray(found, np.float64) for found in results])[:count]


@eqx.filter_jit
def _nominal(
    config: DMPConfig, states: Array, ends: Array, conditions: Array, keys: Array
) -> Float[Array, "n 1 7"]:
    def one(state: Array, end: Array, condition: Array) -> Array:
        start = jnp.zeros(())
        motion = nominal_motion(state, start, end, condition, ModelConfig(), config)
        return (state + motion.displacements[-1])[None]

    return jax.vmap(one)(states, ends, conditions)
