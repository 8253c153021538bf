"""The encoder: all that the law of a transition depends on, before any network.

The block responds only to what touches it, wherever on the table it lies: in its own frame the same
push is the same numbers. So the networks get the agent, its nominal path and the nominal push in
the block's frame, besides the block's pose on the table and a time; and all this in one of the
room's eight images (`model.symmetry`). With `model.physics: path` they get no push, and with `none`
the plain numbers of state, time and policy in place of all this. An encoding is a function of one
state, two times and one condition, and holds nothing that is trained.
"""

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams, condition_dim
from nsf_pipeline.model.arguments import condition_vector, start_and_end, vector
from nsf_pipeline.model.contact import clearance, in_frame_of, rotate
from nsf_pipeline.model.nominal import (
    Condition,
    NominalMotion,
    Scalar,
    State,
    knows_noise,
    nominal_motion,
)
from nsf_pipeline.model.normaliser import Normaliser, noise_unit
from nsf_pipeline.model.symmetry import changed_by_mirror
from nsf_pipeline.pusht.geometry import WORKSPACE
from nsf_pipeline.pusht.state import StateLayout, layout_of

MIDDLE = {"px": (WORKSPACE[0] + WORKSPACE[1]) / 2.0, "px/s": 0.0, "rad": 0.0, "rad/s": 0.0}
"""By unit: what is subtracted from a plain number before it is scaled."""
SIZE = {"px": (WORKSPACE[1] - WORKSPACE[0]) / 2.0, "px/s": 200.0, "rad": 1.0, "rad/s": 4.0}
"""By unit: what a plain number is divided by."""
FAR, NEAR = np.array([50.0, 50.0, 1.0], np.float32), np.array([5.0, 5.0, 0.1], np.float32)
"""px, px, rad; what displacements of the block, and small differences of them, are divided by."""
FAST, SLOW = np.array([100.0, 100.0, 2.0], np.float32), np.array([10.0, 10.0, 0.2], np.float32)
"""px/s, px/s, rad/s; what velocities of the block, and small ones, are divided by."""
MOST = 100.0
"""Size of a feature, at most. In data it is below 15; a single draw far outside would otherwise
grow without bound where a model predicts from its own draws."""


class Encoding(NamedTuple):
    """A transition as the networks get it.

    Attributes:
        state: x_s in px, px/s, rad, rad/s.
        t_init: s, since the policy started.
        t_final: s, since the policy started.
        condition: the packed DMP vector.
        displacements: nominal ones (px, px/s, rad, rad/s) at even times from s to t, or over one
            control step where that is longer; for a neural SDE, always over one control step.
        features: what the networks are given, of order one.
        side: -1 if that is of a mirror image of the state (`model.symmetry`), else 1.
    """

    state: State
    t_init: Scalar
    t_final: Scalar
    condition: Condition
    displacements: Float[Array, "knots dim"]
    features: Float[Array, " features"]
    side: Scalar

    def displacement(self, share: Scalar) -> State:
        """The nominal displacement after a share of the way, interpolated linearly."""
        last = self.displacements.shape[0] - 1
        place = share * last
        lower = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, last - 1)
        weight = place - lower
        before, after = self.displacements[lower], self.displacements[lower + 1]
        return (1.0 - weight) * before + weight * after


@final
class Encoder(eqx.Module):
    """Encodes transitions.

    Attributes:
        config: what the model may know.
        dmp: what all policies share.
        normaliser: sizes from the training data.
    """

    config: ModelConfig = eqx.field(static=True)
    dmp: DMPConfig = eqx.field(static=True)
    normaliser: Normaliser = eqx.field(static=True)

    def __call__(
        self, state: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Encoding:
        """The encoding of a transition from a state at t_init (s) to t_final (s).

        Raises:
            ValueError: an argument that is known means nothing.
        """
        self.require_meaning(state, t_init, t_final, condition)
        motion = nominal_motion(state, t_init, t_final, condition, self.config, self.dmp)
        moved, side = motion.displacements, motion.side
        if self.config.physics == "none":
            features = self._plain_features(state, t_init, condition)
        else:
            features = self._features(motion, self._known(t_init, condition))
        bounded = jnp.clip(features, -MOST, MOST)
        return Encoding(state, t_init, t_final, condition, moved, bounded, side)

    def _known(self, t_init: Scalar, condition: Condition) -> Float[Array, " known"]:
        """What the model may know beside the motion: the policy's duration and noise, or a time."""
        if self.config.conditional:
            params = DMPParams.from_vector(condition)
            noise = params.action_noise_std
            # The first is steep where there is little noise.
            return jnp.stack([params.duration, jnp.tanh(noise / 2.0), noise / 10.0])
        return jnp.zeros(1) if self.config.autonomous else t_init[None]

    def require_meaning(
        self, state: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> None:
        """Check the arguments that are known; traced ones pass, see `arguments.is_meant`.

        Raises:
            ValueError: a number is not finite, times run backwards, or the policy means nothing.
        """
        vector("state", state, self.config.state_dim)
        start_and_end(t_init, t_final)
        condition_vector(condition, self.condition_dim)

    def _features(
        self, motion: NominalMotion, known: Float[Array, " known"]
    ) -> Float[Array, " features"]:
        """Numbers of order one.

        Args:
            motion: the nominal motion.
            known: what else the model may know: the policy's duration (s) and noise, or t_init (s)
                for a model that is not conditional.
        """
        agent, velocity, block = motion.agent, motion.velocity, motion.block
        push = _push_features(motion)
        low, high = np.array(self.normaliser.block_bounds, np.float32)
        gap = clearance(block, agent)
        gaps = jax.vmap(clearance, (None, 0))(block, motion.path)
        parts = [
            in_frame_of(block, agent) / 100.0,
            in_frame_of(block, motion.path).ravel() / 100.0,
            # Steep where it matters, at contact, and flat where it does not.
            jnp.tanh(gap[None] / 10.0),
            jnp.tanh(gaps / 10.0),
            gap[None] / 100.0,
            jnp.min(gaps)[None] / 30.0,
            push,  # empty where it is not known
            2.0 * (block[:2] - low) / (high - low) - 1.0,
            jnp.stack([jnp.cos(block[2]), jnp.sin(block[2])]),
            known,
        ]
        if velocity is not None:
            parts.append(rotate(velocity, -block[2]) / 200.0)
        if motion.block_velocity is not None:
            parts.append(_velocity_features(motion, motion.block_velocity))
        return jnp.concatenate(parts)

    def _plain_features(
        self, state: State, t_init: Scalar, condition: Condition
    ) -> Float[Array, " features"]:
        """State, time and policy as they are: each number is only scaled, by fixed sizes.

        The elapsed time t - s is no feature: the flow gets it as it is. The angle is given by its
        cosine and sine, so that a full turn changes nothing.
        """
        layout, angle = self.layout, state[self.layout.angle]
        middle, size = (
            np.array([by[unit] for unit in layout.units], np.float32) for by in (MIDDLE, SIZE)
        )
        parts = [
            jnp.delete((state - middle) / size, layout.angle),
            jnp.stack([jnp.cos(angle), jnp.sin(angle)]),
        ]
        if not self.config.autonomous:
            parts.append(t_init[None])
        if self.config.conditional:
            params = DMPParams.from_vector(condition)
            start, goal = ((at - MIDDLE["px"]) / SIZE["px"] for at in (params.start, params.goal))
            params = params._replace(
                start=start,
                goal=goal,
                stiffness=params.stiffness / 50.0,
                damping=params.damping / 15.0,
                action_noise_std=params.action_noise_std / 10.0,
            )
            parts.append(params.as_vector(jnp))
        return jnp.concatenate(parts)

    def frame(self, state: State) -> Scalar:
        """rad; the angle of the residual's frame: the block's, or the room's without physics."""
        if self.config.physics == "none":
            return jnp.zeros(())
        return state[self.layout.angle]

    @property
    def layout(self) -> StateLayout:
        """Where the parts of a state are."""
        return layout_of(self.config.state_dim)

    @property
    def knows_noise(self) -> bool:
        """See `nominal.knows_noise`."""
        return knows_noise(self.config)

    def signs(self, encoding: Encoding) -> State:
        """-1 for the residual's numbers that the networks see mirrored, 1 for the others."""
        return jnp.where(changed_by_mirror(self.layout), encoding.side, 1.0)

    def scale(self, encoding: Encoding) -> State:
        """Sizes of the residual's numbers with their signs: px, px/s, rad, rad/s."""
        return self.signs(encoding) * self.sizes(encoding.condition)

    def sizes(self, condition: Condition) -> State:
        """Sizes of the residual's numbers: px, px/s, rad, rad/s."""
        return jnp.array(self.normaliser.scale) * noise_unit(condition, self.config)

    @property
    def condition_dim(self) -> int:
        """Numbers in a packed DMP vector."""
        return condition_dim(self.dmp.n_basis)

    @property
    def feature_dim(self) -> int:
        """How many features there are."""
        state, condition = (
            jax.ShapeDtypeStruct((size,), jnp.float32)
            for size in (self.config.state_dim, self.condition_dim)
        )
        time = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.eval_shape(self.__call__, state, time, time, condition).features.shape[0]


def _push_features(motion: NominalMotion) -> Float[Array, " push"]:
    """Where the pushes take the block, and how deep or near the agent passes."""
    if motion.pushed is None or motion.depths is None or motion.aside is None:
        return jnp.zeros(0)
    start, end, depths = motion.block, motion.pushed[-1], motion.depths
    moved = _displacements(start, motion.pushed - start)
    off = _displacements(start, motion.aside - end)
    return jnp.concatenate(
        [
            (moved / FAR).ravel(),
            (_displacements(start, motion.aside - start) / FAR).ravel(),
            # Steep for small differences.
            jnp.tanh(off / NEAR).ravel(),
            jnp.tanh(depths / 10.0),
            jnp.tanh(jnp.max(depths)[None] / 3.0),
        ]
    )


def _velocity_features(
    motion: NominalMotion, velocity: Float[Array, "3"]
) -> Float[Array, " velocities"]:
    """The block's velocity, and those that the push gives it at both ends if it is known."""
    own, pushed = velocity[None], motion.pushed_velocity
    seen = _displacements(motion.block, own if pushed is None else jnp.concatenate([own, pushed]))
    # Bounded, for the fastest are a hundred times as fast as most; and steep for slow ones.
    return jnp.concatenate([jnp.tanh(seen / size).ravel() for size in (FAST, SLOW)])


def _displacements(
    block: Float[Array, "3"], moved: Float[Array, "poses 3"]
) -> Float[Array, "poses 3"]:
    """Displacements of poses (px, px, rad), or velocities, in the frame of a block."""
    return jnp.concatenate([rotate(moved[:, :2], -block[2]), moved[:, 2:]], axis=1)
