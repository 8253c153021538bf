"""A neural SDE in place of the flow: drift and diffusion networks, and a numerical solver.

In the block's frame and in the units of the residuals (`nsf_pipeline.model.pusht`),

    dx = (nominal(t, t + h) / h + mu(c)) dt + L(c) dW    (Ito),

where h is the control step, c the features of the view of the step that lies ahead, nominal its
nominal displacement, and L lower triangular: what moves the agent moves its velocity too, and the
block that it pushes.

Drift and diffusion hold for a control step, as the environment's targets do. Over one step the law
is therefore the Gaussian of Euler and Maruyama, exactly; training maximises its density over
transitions of one control step (those of a trajectory make up all of its likelihood), and Euler's
solver with steps as long draws from what was fitted.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Given, MultivariateNormalTri, jittable
from nsf_pipeline.model.pusht import (
    ACTIVATIONS,
    MIN_STD,
    TIME_UNIT,
    BlockFrameLaw,
    PushTLaw,
    PushTModel,
    turn,
)
from nsf_pipeline.model.view import Condition, Scalar, State, View
from nsf_pipeline.timing import CONTROL_DT

STEP = CONTROL_DT
"""s; of the solver."""


class EulerStep(PushTLaw):
    """p(x_t | x_s, s, t, c) of one step of Euler and Maruyama, of a control step at most.

    Attributes:
        drift: mu of the features.
        diffusion: L of the features, row by row below its diagonal, which comes first.
        view: how both see a state.
    """

    drift: eqx.nn.MLP
    diffusion: eqx.nn.MLP
    view: View

    def coefficients(
        self, x: State, t: Scalar, condition: Condition
    ) -> tuple[State, Float[Array, " dim"], Float[Array, "dim dim"]]:
        """Nominal displacement of the next control step; mu and L, of the residual."""
        displacements, seen = self.view(x, t, t + CONTROL_DT, condition)
        diagonal, below = jnp.split(self.diffusion(seen), [len(x)])
        # A product with ones and zeros, for scattering is slow.
        places = np.zeros((len(below), len(x), len(x)), np.float32)
        places[np.arange(len(below)), *np.tril_indices(len(x), -1)] = 1.0
        factor = jnp.diag(jax.nn.softplus(diagonal) + MIN_STD) + jnp.tensordot(below, places, 1)
        return displacements[-1], self.drift(seen), factor

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> BlockFrameLaw:
        """The law of the state at t_final (s), from x_init (px, px/s, rad) at t_init (s)."""
        nominal, drift, factor = self.coefficients(x_init, t_init, condition)
        gap = t_final - t_init
        delta = gap / TIME_UNIT
        residual = MultivariateNormalTri(delta * drift, jnp.sqrt(delta) * factor)
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
        """Drift (dim) per s, and diffusion (dim, dim) per root s with the block's angle."""
        nominal, drift, factor = self.step.coefficients(y, t, self.condition)
        scale = jnp.array(self.step.view.normaliser.scale)
        drift = nominal / CONTROL_DT + turn(scale * drift / TIME_UNIT, y[-1])
        return drift, scale[:, None] * factor / TIME_UNIT**0.5, y[-1]

    def contr(self, t0, t1, **kwargs):  # type: ignore[no-untyped-def]
        """Time and Brownian motion that pass."""
        return t1 - t0, self.motion.evaluate(t0, t1)

    def prod(self, vf, control):  # type: ignore[no-untyped-def]
        """What they move."""
        (drift, diffusion, angle), (time, motion) = vf, control
        return drift * time + turn(diffusion @ motion, angle)


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


def build_neural_sde(view: View, *, key: PRNGKeyArray) -> PushTSDE:
    """An untrained neural SDE."""
    sizes, dim = view.config.flow, view.config.state_dim
    shape = sizes.hidden_size, sizes.depth, ACTIVATIONS[sizes.activation]
    drift, diffusion = (
        eqx.nn.MLP(view.feature_dim, outputs, *shape, key=each)
        for outputs, each in zip((dim, dim * (dim + 1) // 2), jax.random.split(key), strict=True)
    )
    return PushTSDE(EulerStep(drift=drift, diffusion=diffusion, view=view), None)
