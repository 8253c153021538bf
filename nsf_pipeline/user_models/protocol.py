"""What a user's class must have, and what it is given."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, SupportsFloat, SupportsInt, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from nsf_pipeline.config import DMPConfig

Values = Any
"""Arrays of NumPy or JAX, or what NumPy makes one of."""


@runtime_checkable
class Source(Protocol):
    """Transitions: pairs of states of one trajectory, drawn at random."""

    def __len__(self) -> int:
        """States to start from."""

    def sample(self, key: Array, batch_size: int) -> Any:
        """Draw a `data.transitions.TransitionBatch`, with replacement.

        It has x_init (batch, 7), x_final (batch, 7), t_init (batch), t_final (batch) and condition
        (batch, C), in px, px/s, rad and s, as arrays of JAX. The gap is at most `training.max_gap`,
        and the later state is blurred by `training.block_blur`, also where the block rests.
        """


class Data(NamedTuple):
    """What a model is trained on.

    Attributes:
        train: transitions of the train split.
        validation: those of the validation split.
    """

    train: Source
    validation: Source


@runtime_checkable
class Report(Protocol):
    """Takes down a row of the history of training, and prints it."""

    def __call__(self, step: SupportsInt, **numbers: SupportsFloat) -> None:
        """A row: the step, and any numbers by name; each row has the same names."""


class SupportsSampling(Protocol):
    """The methods that a user's class must have; arguments are given by position.

    States hold the agent's position (px) and velocity (px/s) and the block's position (px) and
    continuous angle (rad). Times are in s since the policy started. A condition is the packed DMP
    vector (`nsf_pipeline.dmp.DMPParams`). Arrays are NumPy's, in single precision.
    """

    def __init__(self, settings: Mapping[str, Any], dmp: DMPConfig) -> None:
        """Create an untrained model.

        Args:
            settings: `model.settings` of the variant, as plain values.
            dmp: what all DMPs have in common.

        Raises:
            ValueError: a setting means nothing; the message is shown to the user.
        """

    def fit(self, data: Data, key: Array, report: Report) -> None:
        """Train.

        Args:
            data: what to train on.
            key: a JAX key, the seed of all random numbers.
            report: takes down rows for metrics.csv.
        """

    def sample(
        self,
        keys: Key[Array, " n"],
        state: Float[np.ndarray, "n 7"],
        t_init: Float[np.ndarray, " n"],
        t_final: Float[np.ndarray, " n"],
        condition: Float[np.ndarray, "n condition"],
        num_samples: int,
    ) -> Values:
        """Draw states at a later time.

        Args:
            keys: (n) JAX keys. A row's draws should follow from its own key alone, so that they do
                not depend on which other rows are asked for; `normal` helps.
            state: (n, 7) at t_init.
            t_init: (n) s.
            t_final: (n) s, later than t_init.
            condition: (n, C).
            num_samples: draws of each row.

        Returns:
            (n, num_samples, 7).
        """

    def arrays(self) -> Mapping[str, Values]:
        """The trained model, as arrays of numbers by name; they are all that is saved."""

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take what `arrays` gave, after `__init__` with the same settings."""


class ScoredModel(SupportsSampling, Protocol):
    """A model that also has a density; without one, its cells in the tables are empty."""

    def log_prob(
        self,
        next_state: Float[np.ndarray, "n 7"],
        state: Float[np.ndarray, "n 7"],
        t_init: Float[np.ndarray, " n"],
        t_final: Float[np.ndarray, " n"],
        condition: Float[np.ndarray, "n condition"],
    ) -> Values:
        """Log-densities (n) in nats, per px, px/s and rad; NaN where they are not known."""


def normal(keys: Key[Array, " n"], shape: tuple[int, ...]) -> Float[np.ndarray, "n ..."]:
    """Standard normal numbers (n, *shape) float32, each row from its own key."""
    return np.asarray(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
