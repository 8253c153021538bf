"""A neural SDE in place of the flow: drift and diffusion networks, and a numerical solver.

In the block's frame and in the units of the residuals (`nsf_pipeline.model.pusht`),

    dx = (nominal(t, t + h) / h + mu(c)) dt + diag(sigma(c)) dW    (Ito),

where h is the control step, c the features of the view of the step that lies ahead, and nominal its
nominal displacement. The density that training maximises is that of one step of Euler and Maruyama
over a transition of one control step, and so long are the solver's steps.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.flow.distributions import Given, MultivariateNormalDiag, jittable
from nsf_pipeline.model.pusht import (
    ACTIVATIONS,
    MIN_STD,
    TIME_UNIT,
    BlockFrameLaw,
    Condition,
    Normaliser,
    PushTLaw,
    PushTModel,
    Scalar,
    State,
    View,
    turn,
)
from nsf_pipeline.timing import CONTROL_DT

STEP = CONTROL_DT
"""s; of the solver."""


class EulerStep(PushTLaw):
    """p(x_t | x_s, s, t, c) of one step of Euler and Maruyama, of a control step at most.

    Attributes:
        drift: mu of the features.
        diffusion: sigma of the features, before it is made positive.
        view: how both see a state.
    """

    drift: eqx.nn.MLP
    diffusion: eqx.nn.MLP
    view: View

    def coefficients(
        self, x: State, t: Scalar, condition: Condition
    ) -> tuple[State, Float[Array, " dim"], Float[Array, " dim"]]:
        """Nominal displacement of the next control step; mu and sigma, per time unit."""
        displacements, seen = self.view(x, t, t + CONTROL_DT, condition)
        return displacements[-1], self.drift(seen), jax.nn.softplus(self.diffusion(seen)) + MIN_STD

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> BlockFrameLaw:
        """The law of the state at t_final (s), from x_init (px, px/s, rad) at t_init (s)."""
        nominal, drift, std = self.coefficients(x_init, t_init, condition)
        gap = t_final - t_init
        delta = gap / TIME_UNIT
        residual = MultivariateNormalDiag(delta * drift, jnp.sqrt(delta) * std)
        origin = x_init + gap / CONTROL_DT * nominal
        return BlockFrameLaw(residual, origin, x_init[-1], self.view.normaliser.scale)


class Field(diffrax.AbstractTerm):
    """Drift and diffusion at once, for both see the same view.

    Attributes:
        step: the networks.
        condition: the DMP vector.
        motion: the Brownian motion, of variance 1 per s.
    """

    step: EulerStep
    condition: Condition
    motion: diffrax.UnsafeBrownianPath

    def vf(self, t, y, args):  # type: ignore[no-untyped-def]
        """Drift (dim) per s, and diffusion (dim) per root s with the block's angle."""
        nominal, drift, std = self.step.coefficients(y, t, self.condition)
        scale = jnp.array(self.step.view.normaliser.scale)
        drift = nominal / CONTROL_DT + turn(scale * drift / TIME_UNIT, y[-1])
        return drift, scale * std / TIME_UNIT**0.5, y[-1]

    def contr(self, t0, t1, **kwargs):  # type: ignore[no-untyped-def]
        """Time and Brownian motion that pass."""
        return t1 - t0, self.motion.evaluate(t0, t1)

    def prod(self, vf, control):  # type: ignore[no-untyped-def]
        """What they move."""
        (drift, diffusion, angle), (time, motion) = vf, control
        return drift * time + turn(diffusion * motion, angle)


class PushTSDE(PushTModel):
    """The model whose law a solver draws, with the same methods as the flow's."""

    transition: EulerStep
    bridge: None

    @jittable
    def sample(
        self,
        key: PRNGKeyArray,
        state: Given,
        t_init: Scalar | float,
        t_final: Scalar | float,
        condition: Given,
        num_samples: int = 64,
    ) -> Float[Array, "samples dim"]:
        """As `PushTModel.sample`, by steps of the solver; not differentiable backwards."""
        start, begin, end, known = self._given(state, t_init, t_final, condition)

        def draw(key: PRNGKeyArray) -> State:
            solution = diffrax.diffeqsolve(
                Field(self.transition, known, diffrax.UnsafeBrownianPath(start.shape, key)),
                diffrax.Euler(),
                begin,
                end,
                STEP,
                start,
                adjoint=diffrax.DirectAdjoint(),
                max_steps=None,
                throw=False,
            )
            return solution.ys[-1]

        return jax.vmap(draw)(jax.random.split(key, num_samples))

    @jittable
    def log_prob(
        self,
        next_state: Given,
        state: Given,
        t_init: Scalar | float,
        t_final: Scalar | float,
        condition: Given,
    ) -> Scalar:
        """As `PushTModel.log_prob`; NaN beyond one control step, where it is not known."""
        density = PushTModel.log_prob.__get__(self)(next_state, state, t_init, t_final, condition)
        return jnp.where(t_final - t_init <= 1.001 * STEP, density, jnp.nan)


def build_neural_sde(
    config: ModelConfig, dmp: DMPConfig, normaliser: Normaliser, *, key: PRNGKeyArray
) -> PushTSDE:
    """An untrained neural SDE."""
    view, sizes = View(config, dmp, normaliser), config.flow
    drift, diffusion = (
        eqx.nn.MLP(
            view.feature_dim,
            config.state_dim,
            sizes.hidden_size,
            sizes.depth,
            ACTIVATIONS[sizes.activation],
            key=each,
        )
        for each in jax.random.split(key)
    )
    return PushTSDE(EulerStep(drift=drift, diffusion=diffusion, view=view), None)
