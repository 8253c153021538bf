"""A neural SDE in place of the flow: drift and diffusion networks, and a numerical solver.

In the residuals' frame (the block's) and units (`nsf_pipeline.model.law`),

    dx = (nominal(t, t + h) / h + mu(c)) dt + L(c) dW    (Ito),

where h is the control step, c the features of the control step that lies ahead, nominal its nominal
displacement, and L lower triangular: what moves the agent also moves its velocity and the block
that it pushes.

Drift and diffusion are held for a control step, as the environment holds its targets. So the law of
one step is exactly the Gaussian of Euler and Maruyama. Training maximises its density over
transitions of one control step (their product is a trajectory's whole likelihood), and the solver,
Euler's with steps of the same length, draws from the law that was fitted.
"""

from collections.abc import Callable
from typing import final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import MultivariateNormalTri
from nsf_pipeline.flow.guard import nan_unless
from nsf_pipeline.model.arguments import EARLIEST, LATEST, is_meant
from nsf_pipeline.model.encoder import Encoder, Encoding
from nsf_pipeline.model.law import BlockFrameLaw, rotate_planes
from nsf_pipeline.model.nominal import Condition, Scalar, State
from nsf_pipeline.model.transition import TIME_UNIT, PushTTransition
from nsf_pipeline.timing import CONTROL_DT

STEP = CONTROL_DT
"""s; of the solver."""


@final
class SDETransition(PushTTransition):
    """The law of a neural SDE.

    Attributes:
        drift: mu of the features.
        diffusion: L of the features, its diagonal first, then row by row what is below.
        encoder: of the control step that lies ahead.
        min_std: least diagonal of L.
    """

    drift: eqx.nn.MLP
    diffusion: eqx.nn.MLP
    encoder: Encoder
    min_std: float = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        hidden_size: int,
        depth: int,
        activation: Callable[[Array], Array],
        min_std: float,
        *,
        key: PRNGKeyArray,
    ) -> "SDETransition":
        """An untrained one, with networks of so many hidden layers."""
        dim = encoder.layout.dim
        drift, diffusion = (
            eqx.nn.MLP(encoder.feature_dim, outputs, hidden_size, depth, activation, key=each)
            for outputs, each in zip(
                (dim, dim * (dim + 1) // 2), jax.random.split(key), strict=True
            )
        )
        return cls(drift=drift, diffusion=diffusion, encoder=encoder, min_std=min_std)

    def encode(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Encoding:
        """See `PushTTransition.encode`; features are those of one control step from t_init."""
        ahead = self.encoder(x_init, t_init, t_init + CONTROL_DT, condition)
        return ahead._replace(t_final=t_final)

    def law(self, encoding: Encoding) -> "SDELaw":
        """The law of the state at t_final.

        Raises:
            ValueError: an argument that is known means nothing.
        """
        self.encoder.require_meaning(*encoding[:4])
        return SDELaw(self, encoding)

    def coefficients(
        self, encoding: Encoding
    ) -> tuple[State, Float[Array, " dim"], Float[Array, "dim dim"]]:
        """Nominal displacement of the next control step; mu and L, of the residual."""
        dim, features = len(encoding.state), encoding.features
        diagonal, below = jnp.split(self.diffusion(features), [dim])
        # A product with ones and zeros, for scattering is slow.
        places = np.zeros((len(below), dim, dim), np.float32)
        places[np.arange(len(below)), *np.tril_indices(dim, -1)] = 1.0
        factor = jnp.diag(jax.nn.softplus(diagonal) + self.min_std)
        factor += jnp.tensordot(below, places, 1)
        return encoding.displacements[-1], self.drift(features), factor


@final
class SDELaw(eqx.Module):
    """The law of a neural SDE after some time: the solver draws from it.

    Attributes:
        transition: the networks.
        encoding: where the solver starts, and until when it goes.
    """

    transition: SDETransition
    encoding: Encoding

    def sample(self, key: PRNGKeyArray) -> State:
        """One state, by steps of the solver; not differentiable backwards."""
        return self._solved(diffrax.UnsafeBrownianPath(self.encoding.state.shape, key))

    def noiseless(self) -> State:
        """The state that the drift alone leads to."""
        return self._solved(Still(self.encoding.state.shape))

    def _solved(self, motion: "diffrax.UnsafeBrownianPath | Still") -> State:
        start, known = self.encoding.state, self.encoding.condition
        t_init, t_final = self.encoding.t_init, self.encoding.t_final
        # Without an end after the start, the solver would go on for ever; nearly so for one that is
        # far away.
        has_end = (t_final >= t_init) & (t_final <= LATEST) & (t_init >= EARLIEST)
        solution = diffrax.diffeqsolve(
            _Field(self.transition, known, motion),
            diffrax.Euler(),
            t_init,
            jnp.where(has_end, t_final, t_init),
            STEP,
            start,
            adjoint=diffrax.DirectAdjoint(),
            max_steps=None,
            throw=False,
        )
        return nan_unless(is_meant(*self.encoding[:4]), solution.ys[-1])

    def log_prob(self, x: State) -> Scalar:
        """Log-density in nats, per px, px/s and rad; NaN beyond one step, where it is not known."""
        is_known = self.encoding.t_final - self.encoding.t_init <= 1.001 * STEP
        return jnp.where(is_known, self.euler_step().log_prob(x), jnp.nan)

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One state and its log-density."""
        x = self.sample(key)
        return x, self.log_prob(x)

    def euler_step(self) -> BlockFrameLaw:
        """The law of a single step of Euler and Maruyama."""
        encoding, encoder = self.encoding, self.transition.encoder
        nominal, drift, factor = self.transition.coefficients(encoding)
        gap = encoding.t_final - encoding.t_init
        delta = gap / TIME_UNIT
        residual = MultivariateNormalTri(delta * drift, jnp.sqrt(delta) * factor)
        origin = encoding.state + gap / CONTROL_DT * nominal
        angle = encoder.frame(encoding.state)
        return BlockFrameLaw(residual, origin, angle, encoder.scale(encoding))


@final
class Still(eqx.Module):
    """A Brownian motion that does not move.

    Attributes:
        shape: of its values.
    """

    shape: tuple[int, ...] = eqx.field(static=True)

    def evaluate(self, t0: Scalar, t1: Scalar) -> Float[Array, " dim"]:
        """How far it moves between two times."""
        return jnp.zeros(self.shape)


@final
class _Field(diffrax.AbstractTerm):
    """The solver's term: drift and diffusion together, for both need the same features.

    Attributes:
        transition: the networks.
        condition: the packed DMP vector.
        motion: the Brownian motion, of variance 1 per s.
    """

    transition: SDETransition
    condition: Condition
    motion: "diffrax.UnsafeBrownianPath | Still"

    def vf(self, t, y, args):  # type: ignore[no-untyped-def]
        """Drift (dim) per s, and diffusion (dim, dim) per root s with its frame's angle."""
        encoder = self.transition.encoder
        encoding = self.transition.encode(y, t, t, self.condition)
        nominal, drift, factor = self.transition.coefficients(encoding)
        scale, angle = encoder.scale(encoding), encoder.frame(y)
        drift = nominal / CONTROL_DT + rotate_planes(scale * drift / TIME_UNIT, angle)
        return drift, scale[:, None] * factor / TIME_UNIT**0.5, angle

    def contr(self, t0, t1, **kwargs):  # type: ignore[no-untyped-def]
        """Time and Brownian motion that pass."""
        return t1 - t0, self.motion.evaluate(t0, t1)

    def prod(self, vf, control):  # type: ignore[no-untyped-def]
        """What they move."""
        (drift, diffusion, angle), (time, motion) = vf, control
        return drift * time + rotate_planes(diffusion @ motion, angle)
