"""A trained model as the dynamics of environments: actions become policies, draws become states."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array

from nsf_pipeline import checks
from nsf_pipeline.config import PolicyConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.envs import outcome
from nsf_pipeline.errors import UserError
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.states import in_layout, of_seven
from nsf_pipeline.model.transition import PushTTransition
from nsf_pipeline.numerics import GENERATOR, with_defaults
from nsf_pipeline.pusht.factors import MOST_TURN, Factors
from nsf_pipeline.pusht.geometry import WORKSPACE
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT, num_steps

MODES = ("step", "policy")
_POLICIES = PolicyConfig()
STIFFNESS = _POLICIES.stiffness[0]
DAMPING = 2.0 * _POLICIES.damping_ratio[0] * math.sqrt(STIFFNESS)
DURATIONS = (CONTROL_DT, _POLICIES.duration[1])
"""s; of the policies that are actions."""
DECIMALS = 5
"""Of a duration in s; what is beyond is rounding."""
HELD_DURATION = 2.0
"""s; duration of the policy that stands for one target: of those in the default data."""


FASTEST = 10 * WORKSPACE[1]
"""px/s; the agent would cross the window in one control step."""
LEAST, GREATEST = (
    STATE.join(np.full(2, position), np.full(2, velocity), [position, position, angle])
    for position, velocity, angle in (
        (WORKSPACE[0], -FASTEST, -MOST_TURN),
        (WORKSPACE[1], FASTEST, MOST_TURN),
    )
)
"""A state that is drawn beyond is brought back to these: a few draws of extreme pushes lie far
outside the window, and what the model would make of such a state lies farther still."""


class Dynamics:
    """Draws the states that a model predicts, for any number of environments at once."""

    def __init__(self, model: PushTModel | Path | str | None, mode: str) -> None:
        """Create it.

        Args:
            model: a trained model, or the path of its file.
            mode: what an action is: `step`, the agent's target for one control step; or `policy`,
                the parameters of a DMP that starts where the agent is.

        Raises:
            UserError: there is no such model, it is not one for this, or the mode is unknown.
        """
        if mode not in MODES:
            raise UserError(f"expected mode to be {' or '.join(MODES)}, got {checks.shown(mode)}")
        self.mode, self.model = mode, _loaded(model)
        encoder = self.model.encoder
        if not encoder.config.conditional:
            raise UserError(
                "a model with model.conditional = false knows nothing of actions; use another model"
            )
        if mode == "step" and encoder.config.autonomous:
            raise UserError(
                "a model with model.autonomous = true knows no single control steps; use "
                "mode='policy', or another model"
            )
        if mode == "step" and encoder.config.physics == "none":
            raise UserError(
                "a model with model.physics = none knows only policies that start where the agent "
                "is, and a single control step is asked as another; use mode='policy', or another "
                "model"
            )
        self._dmp, self._layout = encoder.dmp, encoder.layout
        self.space = self._action_space()

    def _action_space(self) -> spaces.Box:
        low, high = self._dmp.workspace
        if self.mode == "step":
            return outcome.target_space(low, high)
        weights = 2 * self._dmp.n_basis
        least, most = _POLICIES.weights
        return spaces.Box(
            low=np.array([DURATIONS[0], low, low, *[least] * weights], np.float32),
            high=np.array([DURATIONS[1], high, high, *[most] * weights], np.float32),
        )

    def policies(self, states: np.ndarray, actions: np.ndarray, noise_std: float) -> DMPParams:
        """The policies that actions stand for.

        A target is a DMP that starts and ends there, so its desired path stands still there.

        Args:
            states: (n, 7) px, px/s, rad.
            actions: (n, a) in the space.
            noise_std: px; of the noise on the targets.
        """
        count, n_basis = len(actions), self._dmp.n_basis
        if self.mode == "step":
            duration, start, goal = np.full(count, HELD_DURATION), actions, actions
            weights = np.zeros((count, 2, n_basis))
        else:
            # Single precision cannot hold 0.1 s: rounded, it is one control step again.
            duration, goal = actions[:, 0].round(DECIMALS), actions[:, 1:3]
            start, weights = states[:, STATE.agent], actions[:, 3:].reshape(count, 2, n_basis)
        same = (np.full(count, value) for value in (STIFFNESS, DAMPING, noise_std))
        return DMPParams(duration, start, goal, weights, *same)

    def steps(self, policies: DMPParams) -> np.ndarray:
        """(n) control steps that each action takes."""
        if self.mode == "step":
            return np.ones(len(policies.duration), int)
        return np.array([num_steps(duration) for duration in policies.duration.tolist()])

    @with_defaults
    def draw(
        self, states: np.ndarray, policies: DMPParams, steps: np.ndarray, draws: "Draws"
    ) -> np.ndarray:
        """One draw of the state after each policy's control steps, in one pass of the network.

        Args:
            states: (n, 7) px, px/s, rad.
            policies: with one leading axis n.
            steps: (n) control steps.
            draws: the random numbers to use.

        Returns:
            (n, 7) px, px/s, rad, between LEAST and GREATEST; the agent's velocity is 0 where
            the model's state has none. The block's is not kept: each draw starts with a block at
            rest.

        Raises:
            UserError: a prediction is not finite.
        """
        known = in_layout(states, self._layout).astype(np.float32)
        ends = (CONTROL_DT * steps).astype(np.float32)
        conditions = policies.as_vector().astype(np.float32)
        given = map(jnp.asarray, (known, ends, conditions, *draws))
        found = np.asarray(_drawn(self.model.transition, *given), np.float64)
        if not np.isfinite(found).all():
            raise UserError(
                "the model's predictions are not finite; train again or use another model"
            )
        return of_seven(found).clip(LEAST, GREATEST)


class Draws(NamedTuple):
    """Where the random numbers of draws come from.

    Attributes:
        keys: (n, 2) uint32, drawn when an episode begins.
        numbers: (n) uint32, of the draw in its episode.
    """

    keys: np.ndarray
    numbers: np.ndarray


def new_key(random: np.random.Generator) -> np.ndarray:
    """(2) uint32, the data of a key of JAX's."""
    return random.integers(2**32, size=2, dtype=np.uint32)


def factors_of(goal_pose: Any, others: dict[str, Any]) -> Factors:
    """The factors that a model's environment may have: another goal alone.

    Args:
        goal_pose: (3) px, px, rad.
        others: further settings.

    Raises:
        UserError: the goal means nothing, or another factor than the goal is set.
    """
    unknown = others.keys() - set(Factors._fields)
    if unknown:
        raise UserError(f"there is no setting {checks.shown(min(unknown))} of LearnedPushT-v0")
    factors = Factors(goal_pose=goal_pose, **others).checked()
    for name in factors.changed:
        if name != "goal_pose":
            raise UserError(
                f"{name}: the model knows gym-pusht's alone; leave it out, or use PushT-v0"
            )
    return factors


def _loaded(model: Any) -> PushTModel:
    if isinstance(model, PushTModel):
        return model
    if isinstance(model, str | Path):
        return load_model(model)
    raise UserError(
        "expected model to be the path of a trained model, such as 'results/model.eqx', or what "
        f"load_model returns, got {checks.shown(model)}"
    )


@eqx.filter_jit
def _drawn(
    transition: PushTTransition,
    states: Array,
    ends: Array,
    conditions: Array,
    keys: Array,
    numbers: Array,
) -> Array:
    def one(state: Array, end: Array, condition: Array, key: Array, number: Array) -> Array:
        own = jax.random.fold_in(jax.random.wrap_key_data(key, impl=GENERATOR), number)
        return transition(state, jnp.zeros(()), end, condition).sample(own)

    return jax.vmap(one)(states, ends, conditions, keys, numbers)
