"""World models: what planners ask where pushes end, all behind one interface.

The flow and its variants in one pass, with some draws or with the one draw that has no noise; the
same one control step at a time; models of users' classes; the nominal push, which is physics
without learning; the simulator itself; and one that knows nothing.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline import checks, chunks, dmp
from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.config.policy_file import MOST_NOISE
from nsf_pipeline.config.section import MAX_DURATION
from nsf_pipeline.data.actions import executed
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.model import PushTModel
from nsf_pipeline.model.nominal import nominal_motion
from nsf_pipeline.model.states import in_layout, of_seven
from nsf_pipeline.model.transition import PushTTransition
from nsf_pipeline.numerics import GENERATOR, with_defaults
from nsf_pipeline.planning.pushes import policy_steps
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import FARTHEST, Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.user_models import UserModel

Learnt = PushTModel | UserModel
"""A trained model: of this package, or of a class of the user's."""
MOST_DRAWS = 65_536
"""Draws of one candidate's end, at most."""
STEPS_TOGETHER = 10
CHUNK = 256
"""Candidates predicted at once: one compilation serves all calls, and memory is bounded. On a GPU
there are more, as `chunks` says."""
DRAWS_TOGETHER = 2**17
"""Draws predicted at once; with more than 512 of each candidate, a chunk has fewer candidates."""
ANYWHERE = (geometry.WORKSPACE[1], geometry.WORKSPACE[1], 2 * np.pi)
"""px, px, rad; poses of the block are drawn below these by the model that knows nothing."""
MOST_ENDS = 2**25
"""Draws that a call returns, at most: 1.9 GB."""


@runtime_checkable
class WorldModel(Protocol):
    """Predicts where pushes end."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def dmp(self) -> DMPConfig:
        """What all DMPs have in common."""

    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """Draws of the states at the end of policies, after whole control steps.

        Args:
            states: (n, 7) px, px/s, rad, where each policy starts; n at least 1.
            policies: the policies, with one leading axis n.
            key: for the draws: one key, or (n) keys, one for each row.

        Returns:
            (n, draws, 7) px, px/s, rad.

        Raises:
            UserError: an argument means nothing, or there are more than `MOST_ENDS` draws.
        """


@final
class OnePass:
    """A model in one pass, with some draws for each candidate."""

    def __init__(self, model: PushTModel, draws: int, name: str = "flow") -> None:
        """Create it.

        Args:
            model: the flow, or another model.
            draws: of each candidate's end.
            name: of the model; with the number of draws it is the name in tables.

        Raises:
            UserError: draws is no whole number from 1 on, or the model is not conditional.
        """
        self.draws = checks.whole("draws", draws, 1, MOST_DRAWS)
        self.name, self.dmp, self._model = f"{name}_{draws}", _dmp_of(model), model

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`."""
        asked = _asked(states, policies, key, self.dmp, self.draws)
        return _learned(_one_pass, self._model, self.draws, asked, self.draws)


@final
class Noiseless:
    """A model in one pass, with one draw: the one whose noise is 0."""

    def __init__(self, model: PushTModel, name: str = "flow") -> None:
        """Create it; the arguments are those of `OnePass`.

        Raises:
            UserError: the model is not conditional.
        """
        self.name, self.dmp, self._model = f"{name}_mean", _dmp_of(model), model

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`; the key is not used."""
        return _learned(_noiseless, self._model, 1, _asked(states, policies, key, self.dmp, 1), 1)


@final
class InSteps:
    """A model, one control step at a time, each state drawn from the one before."""

    def __init__(self, model: PushTModel, draws: int, name: str = "flow") -> None:
        """Create it; the arguments are those of `OnePass`.

        Raises:
            UserError: as for `OnePass`.
        """
        self.draws = checks.whole("draws", draws, 1, MOST_DRAWS)
        self.name, self.dmp, self._model = f"{name}_steps_{draws}", _dmp_of(model), model

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`."""
        asked = _asked(states, policies, key, self.dmp, self.draws)
        # Rounded up, so that few numbers of steps need compiling.
        steps = -(-policy_steps(asked.policies).max() // STEPS_TOGETHER) * STEPS_TOGETHER
        more = self.draws, int(steps)
        return _learned(_in_steps, self._model, more, asked, self.draws)


@final
class OfUser:
    """A model of a user's class, in one pass or one control step at a time."""

    def __init__(
        self, model: UserModel, draws: int, name: str = "user", *, in_steps: bool = False
    ) -> None:
        """Create it.

        Args:
            model: the model.
            draws: of each candidate's end.
            name: of the model; with the number of draws it is the name in tables.
            in_steps: go one control step at a time.

        Raises:
            UserError: draws is no whole number from 1 on.
        """
        self.draws = checks.whole("draws", draws, 1, MOST_DRAWS)
        self.name = f"{name}_{'steps_' * in_steps}{draws}"
        self.dmp, self._model = model.dmp, model
        self._function = _user_in_steps if in_steps else _user_one_pass

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`."""
        asked = _asked(states, policies, key, self.dmp, self.draws)
        given = self._model, self.draws
        return _finite(_in_chunks(self._function, given, asked, self.draws, at_once=1))


def learned(model: Learnt, draws: int, name: str = "flow", *, in_steps: bool = False) -> WorldModel:
    """The world model of a trained model.

    Args:
        model: of this package or of a user's class.
        draws: of each candidate's end; 0 for the one without noise.
        name: of the model, without the number of draws.
        in_steps: go one control step at a time.

    Raises:
        UserError: the model is not conditional, a user's model has no draw without noise, or draws
            is out of range.
    """
    if isinstance(model, UserModel):
        if not draws:
            raise UserError(
                f"{name}: a model of a user's class has no draw without noise; ask for draws, as "
                f"by {name}_4 or --draws 4"
            )
        return OfUser(model, draws, name, in_steps=in_steps)
    if not draws:
        return Noiseless(model, name)
    return InSteps(model, draws, name) if in_steps else OnePass(model, draws, name)


@final
class Nominal:
    """The agent's nominal path and the nominal push: physics without noise and without learning.

    One draw. Nothing of it is learnt.
    """

    def __init__(self, config: DMPConfig) -> None:
        self.name, self.dmp = "nominal", config

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`; the key is not used."""
        asked = _asked(states, policies, key, self.dmp, 1)
        return _finite(_in_chunks(_nominal, self.dmp, asked, 1))


@final
class Random:
    """The floor: the block ends anywhere, whatever the push, so that the best push is a random one.

    One draw.
    """

    def __init__(self, config: DMPConfig) -> None:
        self.name, self.dmp = "random", config

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`; the agent ends where the policy does."""
        states, policies, keys = _asked(states, policies, key, self.dmp, 1)
        ends = np.array(states)
        for row, own in enumerate(keys):
            ends[row, STATE.block] = np.random.default_rng(own).uniform(0.0, ANYWHERE)
        ends[:, STATE.agent], ends[:, STATE.velocity] = policies.goal, 0.0
        return ends[:, None]


@final
class Simulated:
    """The simulator itself: the bound that no model can exceed, and slow."""

    def __init__(self, config: DMPConfig, members: int) -> None:
        """Create it.

        Args:
            config: what all DMPs have in common.
            members: rollouts of each candidate, each with its own noise at the policy's level; 0
                for one rollout without noise.

        Raises:
            UserError: members is no whole number.
        """
        self.members = checks.whole("members", members, 0, MOST_DRAWS)
        self.name, self.dmp, self._simulator = f"simulator_{members}", config, Simulator()

    @with_defaults
    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`."""
        draws = max(1, self.members)
        states, policies, keys = _asked(states, policies, key, self.dmp, draws)
        steps = policy_steps(policies)
        targets = dmp.targets(policies, self.dmp, int(steps.max()))
        ends = np.empty((len(states), draws, STATE.dim))
        for row, (count, own) in enumerate(zip(steps, keys, strict=True)):
            std = float(policies.action_noise_std[row]) if self.members else 0.0
            actions = executed(targets[row, :count], std, draws, np.random.default_rng(own))
            ends[row] = self._simulator.ensemble(states[row], actions)[:, -1]
        return ends


def _dmp_of(model: PushTModel) -> DMPConfig:
    """The settings of the DMPs that a model knows; a UserError if it cannot tell these apart."""
    if not isinstance(model, PushTModel):
        raise UserError(
            f"expected model to be a trained one, as load_model gives it, got {checks.shown(model)}"
        )
    if not model.encoder.config.conditional:
        raise UserError(
            "a model with model.conditional = false knows nothing of the policy, so it cannot "
            "choose one; use another model"
        )
    return model.encoder.dmp


class _Asked(NamedTuple):
    """What a model is asked, checked.

    Attributes:
        states: (n, 7) px, px/s, rad.
        policies: with one leading axis n.
        keys: (n, 2) the data of the keys, one for each row.
    """

    states: np.ndarray
    policies: DMPParams
    keys: np.ndarray


def _asked(states: Any, policies: DMPParams, key: Array, config: DMPConfig, draws: int) -> _Asked:
    """Check what a model is asked.

    Args:
        states: see `WorldModel.predict`.
        policies: see there.
        key: see there.
        config: what all DMPs have in common.
        draws: of each candidate's end.

    Raises:
        UserError: a shape is wrong, a number is not finite, a parameter is out of range, the key is
            none, or the draws are too many.
    """
    states = checks.numbers("states", states, (None, STATE.dim), least=-FARTHEST, most=FARTHEST)
    count = checks.whole("the number of states", len(states), 1)
    if count * draws > MOST_ENDS:
        raise UserError(
            f"{count} pushes with {draws} draws each are more than {MOST_ENDS} predictions at "
            "once; lower the number of draws, the candidates in planning.search or "
            "protocols.shard_size"
        )
    policies = DMPParams(*(checks.real(*each) for each in policies._asdict().items()))
    policies.require_meaning()
    checks.require_shape("weights", policies.weights.shape, (count, 2, config.n_basis))
    checks.numbers("duration", policies.duration, most=MAX_DURATION)
    checks.numbers("action_noise_std", policies.action_noise_std, most=MOST_NOISE)
    return _Asked(states, policies, np.asarray(jax.random.key_data(_one_each(key, count))))


def _one_each(key: Array, count: int) -> Array:
    """(count) keys, from one or as many."""
    if getattr(key, "shape", ()) != (count,) or key.dtype == jnp.uint32:
        require_key(key)
        return jax.random.split(key, count)
    require_key(key[0])
    return key


def _learned(
    function: Any,
    model: PushTModel,
    more: Any,
    asked: _Asked,
    draws: int,
) -> np.ndarray:
    """A learned model's prediction, whatever the numbers of its state: see `model.states`."""
    asked = asked._replace(states=in_layout(asked.states, model.encoder.layout))
    ends = _in_chunks(function, (model.transition, more), asked, draws)
    return _finite(of_seven(ends))


def _finite(ends: np.ndarray) -> np.ndarray:
    """The predictions, once it is known that all are finite."""
    if not np.isfinite(ends).all():
        raise UserError("the model's predictions are not finite; train again or use another model")
    return ends


def _in_chunks(
    function: Any, given: Any, asked: _Asked, draws: int, *, at_once: int | None = None
) -> np.ndarray:
    """A compiled function's result for all candidates, a chunk at a time.

    Args:
        function: takes what is given, and of a chunk the states, the policies' ends (s), the packed
            policies and the keys; returns an array with a row for each.
        given: its first argument.
        asked: n candidates.
        draws: of each one's end.
        at_once: chunks at once; see `chunks.in_chunks`.
    """
    rows = (
        asked.states.astype(np.float32),
        (CONTROL_DT * policy_steps(asked.policies)).astype(np.float32),
        asked.policies.as_vector().astype(np.float32),
        asked.keys,
    )
    chunk = max(1, min(CHUNK, DRAWS_TOGETHER // draws))
    found = chunks.in_chunks(partial(function, given), rows, chunk, at_once=at_once)
    return np.asarray(found, np.float64)


@eqx.filter_jit
def _one_pass(
    given: tuple[PushTTransition, int], states: Array, ends: Array, conditions: Array, keys: Array
) -> Float[Array, "n draws dim"]:
    transition, draws = given

    def one(state: Array, end: Array, condition: Array, key: Array) -> Array:
        law = transition(state, jnp.zeros(()), end, condition)
        return jax.vmap(law.sample)(jax.random.split(key, draws))

    return jax.vmap(one)(states, ends, conditions, _keys(keys))


@eqx.filter_jit
def _noiseless(
    given: tuple[PushTTransition, int], states: Array, ends: Array, conditions: Array, keys: Array
) -> Float[Array, "n 1 dim"]:
    transition, _ = given

    def one(state: Array, end: Array, condition: Array) -> Array:
        return transition(state, jnp.zeros(()), end, condition).noiseless()[None]

    return jax.vmap(one)(states, ends, conditions)


@eqx.filter_jit
def _in_steps(
    given: tuple[PushTTransition, tuple[int, int]],
    states: Array,
    ends: Array,
    conditions: Array,
    keys: Array,
) -> Float[Array, "n draws dim"]:
    transition, (draws, longest) = given

    def one(state: Array, end: Array, condition: Array, key: Array) -> Array:
        def advance(state: Array, step: tuple[Array, Array, Array]) -> tuple[Array, None]:
            key, s, t = step
            return transition(state, s, t, condition).sample(key), None

        # Steps beyond the end take no time, and leave the state exactly as it is.
        times = jnp.minimum(CONTROL_DT * jnp.arange(longest + 1), end)
        steps = jax.random.split(key, longest), times[:-1], times[1:]
        return jax.lax.scan(advance, state, steps)[0]

    def several(state: Array, end: Array, condition: Array, key: Array) -> Array:
        each = jax.random.split(key, draws)
        return jax.vmap(one, (None, None, None, 0))(state, end, condition, each)

    return jax.vmap(several)(states, ends, conditions, _keys(keys))


def _user_one_pass(
    given: tuple[UserModel, int],
    states: np.ndarray,
    ends: np.ndarray,
    conditions: np.ndarray,
    keys: np.ndarray,
) -> Float[np.ndarray, "n draws 7"]:
    model, draws = given
    each = _keys(jnp.asarray(keys))
    return model.sample(each, states, np.zeros_like(ends), ends, conditions, draws)


def _user_in_steps(
    given: tuple[UserModel, int],
    states: np.ndarray,
    ends: np.ndarray,
    conditions: np.ndarray,
    keys: np.ndarray,
) -> Float[np.ndarray, "n draws 7"]:
    model, draws = given
    each = jax.vmap(lambda key: jax.random.split(key, draws))(_keys(jnp.asarray(keys))).reshape(-1)
    states, ends, conditions = (np.repeat(v, draws, axis=0) for v in (states, ends, conditions))
    for step in range(round(float(ends.max()) / CONTROL_DT)):
        s = np.full_like(ends, CONTROL_DT * step)
        own = jax.vmap(jax.random.fold_in, (0, None))(each, step)
        later = model.sample(own, states, s, s + np.float32(CONTROL_DT), conditions, 1)[:, 0]
        is_under_way = s < ends - CONTROL_DT / 2  # the others have ended
        states = np.where(is_under_way[:, None], later, states)
    return states.reshape(-1, draws, STATE.dim)


def _keys(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=GENERATOR)


@eqx.filter_jit
def _nominal(
    config: DMPConfig, states: Array, ends: Array, conditions: Array, keys: Array
) -> Float[Array, "n 1 7"]:
    def one(state: Array, end: Array, condition: Array) -> Array:
        start = jnp.zeros(())
        motion = nominal_motion(state, start, end, condition, ModelConfig(), config)
        return (state + motion.displacements[-1])[None]

    return jax.vmap(one)(states, ends, conditions)
