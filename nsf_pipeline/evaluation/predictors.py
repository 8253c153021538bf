"""Predictors of the state at a later time: models, baselines and the simulator itself."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.chunks import in_chunks
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.evaluation.metrics import gaussian_log_density
from nsf_pipeline.evaluation.states import Ensembles, States, gap_of
from nsf_pipeline.model.agent_motion import nominal_path
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.user_models import UserModel

CHUNK = 256
"""States predicted at once, at most; on a GPU more, as `chunks` says."""
DRAWS = CHUNK * 128
"""Draws at once, at most, which bounds the memory: of fewer states if each has many draws."""
STEPS_TOGETHER = 10
"""Numbers of steps are rounded up to a multiple of this, so that few need compiling."""
TURN = np.float32(2.0 * np.pi)
"""rad; a whole turn."""
PATH_STEPS = 48
"""Steps of the kinematic prediction's path."""


class Prediction(NamedTuple):
    """The prediction for n states.

    Attributes:
        draws: (n, draws, dim) states at the later time, of the numbers that the predictor knows.
        log_density: (n) nats, of the truth; None if there is no density.
    """

    draws: Float[np.ndarray, "n draws dim"]
    log_density: Float[np.ndarray, " n"] | None


@runtime_checkable
class Predictor(Protocol):
    """Predicts the states at `states.t_final`; uses `x_final` only to give its density."""

    @property
    def name(self) -> str:
        """Name in tables."""

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """At most `num_samples` draws per state, and densities."""


class OnePass:
    """A model in one pass: any object with the methods `sample` and `log_prob` of `PushTModel`."""

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """Draws and densities."""
        known = states.with_numbers(self.model.state_names)
        keys = jax.random.split(key, len(states))
        predict = partial(_one_pass, self.model, num_samples=num_samples)
        return Prediction(*in_chunks(predict, (known, keys), _states_at_once(num_samples)))


class OfUser:
    """A model of a user's class, in one pass."""

    def __init__(self, name: str, model: UserModel) -> None:
        self.name, self.model = name, model

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """Draws, and densities if the class has them."""
        states = states.with_numbers(STATE.names)
        keys, chunk = jax.random.split(key, len(states)), _states_at_once(num_samples)
        predict = partial(_of_user, self.model, num_samples=num_samples)
        found = in_chunks(predict, (states, keys), chunk, at_once=1)
        return Prediction(found[0], found[1] if len(found) > 1 else None)


def in_one_pass(name: str, model: Any) -> "OfUser | OnePass":
    """The predictor of a model, of this package or of a user's class."""
    return OfUser(name, model) if isinstance(model, UserModel) else OnePass(name, model)


class Recursive:
    """A model, one control step of 0.1 s at a time, each state drawn from the one before."""

    def __init__(self, name: str, model: Any, max_samples: int) -> None:
        """Create the predictor.

        Args:
            name: the name in tables.
            model: any object with the method `rollout` of `PushTModel`.
            max_samples: draws per state, at most, because each is a rollout and takes time.
        """
        self.name, self.model, self.max_samples = name, model, max_samples

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """Draws. The density is unknown: it would be an integral over all paths."""
        count = min(num_samples, self.max_samples)
        return Prediction(draws_in_steps(self.model, states, states.gap, count, key=key), None)


def draws_in_steps(
    model: Any, states: States, steps: int, num_samples: int, *, key: PRNGKeyArray
) -> Float[np.ndarray, "n draws dim"]:
    """A model's draws at the states' later time in equal steps, each drawn from the one before.

    Args:
        model: any object with the method `rollout` of `PushTModel`.
        states: where to start, and until when.
        steps: how many.
        num_samples: draws per state.
        key: for the draws.
    """
    known = states.with_numbers(model.state_names)
    keys, chunk = jax.random.split(key, len(states)), _states_at_once(num_samples)
    longest = -(-steps // STEPS_TOGETHER) * STEPS_TOGETHER
    count = jnp.asarray(steps)
    predict = partial(_in_steps, model, steps=count, longest=longest, num_samples=num_samples)
    (draws,) = in_chunks(predict, (known, keys), chunk)
    return draws


def one_draw_each(model: Any, states: States, *, key: PRNGKeyArray) -> Float[np.ndarray, "n dim"]:
    """A model's draw at each state's later time, one of each.

    Args:
        model: of this package or of a user's class.
        states: as the model knows them: with its own numbers.
        key: for the draws.
    """
    rows = states, jax.random.split(key, len(states))
    if isinstance(model, UserModel):
        (draws,) = in_chunks(partial(_user_draw, model), rows, CHUNK, at_once=1)
    else:
        (draws,) = in_chunks(partial(_one_draw, model), rows, CHUNK)
    return draws


class Persistence:
    """Nothing moves."""

    def __init__(self, std: Mapping[float, np.ndarray]) -> None:
        """Create the predictor.

        Args:
            std: by horizon in s, the standard deviations (7) of its density, a Gaussian around the
                present state; see `states.typical_changes`.
        """
        self.name = "persistence"
        self.std = {gap_of(horizon): values for horizon, values in std.items()}

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """The present state, and its density."""
        states = states.with_numbers(STATE.names)
        error = (states.x_final - states.x_init).astype(np.float64)
        density = gaussian_log_density(error, self.std[states.gap])
        return Prediction(_repeated(states.x_init, num_samples), density)


class Kinematic:
    """The agent follows its policy without noise, and the block stays."""

    def __init__(self, dmp: DMPConfig) -> None:
        @jax.jit
        @jax.vmap
        def follow(state: Array, s: Array, t: Array, condition: Array) -> Array:
            times = jnp.linspace(s, t, PATH_STEPS + 1)
            agent, velocity = state[STATE.agent], state[STATE.velocity]
            path, velocities = nominal_path(agent, velocity, times, condition, dmp)
            return STATE.join(path[-1], velocities[-1], state[STATE.block], jnp)

        self.name, self._follow = "kinematic", follow

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """The end of the agent's nominal path."""
        states = states.with_numbers(STATE.names)
        later = self._follow(states.x_init, states.t_init, states.t_final, states.condition)
        return Prediction(_repeated(np.asarray(later), num_samples), None)


class Random:
    """The state of another test trajectory, at random: the floor, which knows nothing."""

    def __init__(self, ensembles: Mapping[float, Ensembles], seed: int) -> None:
        self.name, self.seed = "random", seed
        self.known = {gap_of(horizon): found for horizon, found in ensembles.items()}

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """States of the ensembles, as often as they stand for the split; no density."""
        known = self.known[states.gap]
        random = np.random.default_rng([self.seed, states.gap])
        share = known.weight / known.weight.sum()
        later = known.states.with_numbers(STATE.names).x_final
        draws = later[random.choice(len(share), (len(states), num_samples), p=share)]
        # Angles are continuous, so that of another trajectory may be whole turns away.
        turns = np.round((states.x_init[:, None, STATE.angle] - draws[..., STATE.angle]) / TURN)
        draws[..., STATE.angle] += TURN * turns
        return Prediction(draws, None)


class Simulator:
    """The simulator itself: its ensembles' members are draws from the true law.

    Entered at a state's numbers alone, they are draws from the law given no more than these.
    """

    def __init__(
        self,
        ensembles: Mapping[float, Ensembles],
        name: str = "simulator",
        members: str = "members",
    ) -> None:
        """Create the predictor.

        Args:
            ensembles: by horizon in s.
            name: in tables.
            members: which of the arrays of `Ensembles`.
        """
        self.name = name
        self.members = {gap_of(h): getattr(found, members) for h, found in ensembles.items()}

    def __call__(self, states: States, num_samples: int, *, key: PRNGKeyArray) -> Prediction:
        """The members; the states must be those of the ensembles."""
        return Prediction(self.members[states.gap][:, :num_samples], None)


def _repeated(values: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(values[:, None], (len(values), count, values.shape[1]))


def _states_at_once(num_samples: int) -> int:
    return min(CHUNK, max(1, DRAWS // num_samples))


def _of_user(
    model: UserModel, states: States, keys: Array, num_samples: int
) -> tuple[np.ndarray, ...]:
    given = states.x_init, states.t_init, states.t_final, states.condition
    draws = model.sample(keys, *given, num_samples)
    density = model.log_prob(states.x_final, *given)
    return (draws,) if density is None else (draws, density)


def _user_draw(model: UserModel, states: States, keys: Array) -> tuple[np.ndarray]:
    given = states.x_init, states.t_init, states.t_final, states.condition
    return (model.sample(keys, *given, 1)[:, 0],)


@eqx.filter_jit
def _one_draw(model: Any, states: States, keys: Array) -> tuple[Array]:
    def one(state: States, key: Array) -> Array:
        start, _, s, t, condition = map(jnp.asarray, state)
        return model.sample(key, start, s, t, condition, 1)[0]

    return (jax.vmap(one)(states, keys),)


@eqx.filter_jit
def _one_pass(model: Any, states: States, keys: Array, num_samples: int) -> tuple[Array, Array]:
    def one(state: States, key: Array) -> tuple[Array, Array]:
        start, end, s, t, condition = map(jnp.asarray, state)
        draws = model.sample(key, start, s, t, condition, num_samples)
        return draws, model.log_prob(end, start, s, t, condition)

    return jax.vmap(one)(states, keys)


@eqx.filter_jit
def _in_steps(
    model: Any, states: States, keys: Array, steps: Array, longest: int, num_samples: int
) -> tuple[Array]:
    def one(state: States, key: Array) -> Array:
        start, _, s, t, condition = map(jnp.asarray, state)
        # Steps beyond the last take no time, and leave the state exactly as it is.
        times = s + (t - s) * jnp.minimum(jnp.arange(longest + 1), steps) / steps
        return model.rollout(key, start, times, condition, num_samples)[:, -1]

    return (jax.vmap(one)(states, keys),)
