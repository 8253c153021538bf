"""A model of a user's class: what the tables ask of it, and checks of what it returns."""

from collections.abc import Mapping
from typing import Any, final

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from nsf_pipeline import checks, user_code
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.errors import UserError, on_one_line
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.user_models.protocol import Data, Report

MOST_ARRAYS = 10_000
"""Arrays of a model, at most."""
KINDS_OF_NUMBERS = "biuf"
"""Boolean, whole and real numbers, as NumPy's `dtype.kind` names them."""


@final
class UserModel:
    """A model of a user's class.

    Attributes:
        kind: `package.module:Class`.
        settings: what the class was given.
        dmp: what all DMPs have in common.
        state_names: of the state's numbers: always all seven.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any], dmp: DMPConfig) -> None:
        """Import the class, which runs the user's code, and create an untrained model.

        Raises:
            UserError: one line: the class cannot be imported or lacks a method, or refuses the
                settings by a ValueError, KeyError or TypeError.
        """
        self.kind, self.settings, self.dmp = kind, dict(settings), dmp
        self.state_names = STATE.names
        made = user_code.imported(kind)
        try:
            self._model = made(self.settings, dmp)
        except (KeyError, TypeError, ValueError) as error:
            said = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{kind}: model.settings: {on_one_line(said)}") from error

    def fit(self, data: Data, key: Array, report: Report) -> None:
        """Train; what the user's code raises is not caught."""
        self._model.fit(data, key, report)

    def sample(
        self,
        keys: Key[Array, " n"],
        state: Float[np.ndarray, "n 7"],
        t_init: Float[np.ndarray, " n"],
        t_final: Float[np.ndarray, " n"],
        condition: Float[np.ndarray, "n condition"],
        num_samples: int,
    ) -> Float[np.ndarray, "n samples 7"]:
        """Draw states at a later time; see `SupportsSampling.sample`.

        Raises:
            UserError: the class returns another shape.
        """
        given = _single(state, t_init, t_final, condition)
        draws = self._model.sample(keys, *given, num_samples)
        return self._checked("sample", draws, (len(state), num_samples, STATE.dim))

    def log_prob(
        self,
        next_state: Float[np.ndarray, "n 7"],
        state: Float[np.ndarray, "n 7"],
        t_init: Float[np.ndarray, " n"],
        t_final: Float[np.ndarray, " n"],
        condition: Float[np.ndarray, "n condition"],
    ) -> Float[np.ndarray, " n"] | None:
        """Log-densities in nats; None if the class has none.

        Raises:
            UserError: the class returns another shape.
        """
        density = getattr(self._model, "log_prob", None)
        if density is None:
            return None
        given = _single(next_state, state, t_init, t_final, condition)
        return self._checked("log_prob", density(*given), (len(state),))

    def arrays(self) -> dict[str, np.ndarray]:
        """What is saved of it.

        Raises:
            UserError: the class gives no arrays of finite numbers by name.
        """
        given = self._model.arrays()
        if not isinstance(given, Mapping) or len(given) > MOST_ARRAYS:
            raise UserError(f"{self.kind}: arrays(): expected at most {MOST_ARRAYS} arrays by name")
        found = {}
        for name, values in given.items():
            array = np.asarray(values)
            if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
                raise UserError(f"{self.kind}: arrays(): expected names of at most 200 characters")
            if array.dtype.kind not in KINDS_OF_NUMBERS or not np.isfinite(array).all():
                raise UserError(f"{self.kind}: arrays(): {name}: expected finite numbers")
            found[name] = array
        return found

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take what `arrays` gave.

        Raises:
            UserError: the class refuses them by a ValueError, KeyError or TypeError.
        """
        try:
            self._model.load(arrays)
        except (KeyError, TypeError, ValueError) as error:
            said = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{self.kind}: load(): {on_one_line(said)}") from error

    def _checked(self, method: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        found = np.asarray(jax.device_get(values), np.float32)
        checks.require_shape(f"what {self.kind}.{method} returns", found.shape, shape)
        return found


def _single(*values: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(each, np.float32) for each in values)
