"""The symmetries of PushT: mirror images and quarter turns.

The T is its own mirror image, the walls are a square, and nothing else tells left from right. So a
room that is mirrored or turned by a quarter goes on as the mirrored or turned one would, but for
the order in which Chipmunk solves contacts. Of the eight images of a state that come of this, the
networks always see the one in which the wall nearest to the block is that of small x, and the agent
is on the T's side of positive x (in the T's frame). They have an eighth to learn, and the law has
the symmetries, up to rounding and to the DMP's workspace, which is cut half a pixel off the middle
of the room. Where the image changes (the agent on the T's axis, the block on a diagonal of the
room) the law may jump; a state on such a line is seen in one of its images.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.model.contact import Point, Pose, Scalar, in_frame_of, rotate
from nsf_pipeline.pusht.geometry import T_CENTRE, WALLS
from nsf_pipeline.pusht.state import StateLayout, rotated, rotated_back

MIDDLE = sum(WALLS) / 2
"""px; x and y of the room's middle."""

Triples = Float[Array, "*batch 3"]


class Image(NamedTuple):
    """One of the eight images of the room: it is mirrored or not, and then turned.

    Attributes:
        side: -1 if x is mirrored, else 1.
        turn: rad, a multiple of a quarter turn.
        cos: of it: -1, 0 or 1.
        sin: of it.
    """

    side: Scalar
    turn: Scalar
    cos: Scalar
    sin: Scalar

    @classmethod
    def of(cls, block: Pose, agent: Float[Array, "2"]) -> "Image":
        """The image that the networks see, of a room with a block and an agent."""
        side = jnp.where(in_frame_of(block, agent)[0] < 0.0, -1.0, 1.0)
        x, y = block[:2] + rotate(jnp.array(T_CENTRE, jnp.float32), block[2]) - MIDDLE
        x = side * x
        on_x = jnp.where(x <= 0.0, 0, 2)
        quarters = jnp.where(jnp.abs(x) >= jnp.abs(y), on_x, jnp.where(y <= 0.0, 3, 1))
        cos, sin = (jnp.array(values)[quarters] for values in ((1.0, 0, -1, 0), (0.0, 1, 0, -1)))
        return cls(side, quarters * (np.pi / 2), cos, sin)

    @classmethod
    def same(cls) -> "Image":
        """The room as it is."""
        return cls(jnp.ones(()), jnp.zeros(()), jnp.ones(()), jnp.zeros(()))

    def vectors(self, vectors: Point) -> Point:
        """Plane vectors of the room, in the image."""
        x, y = self.side * vectors[..., 0], vectors[..., 1]
        return jnp.stack(rotated(x, y, self.cos, self.sin), axis=-1)

    def points(self, points: Point) -> Point:
        """Points of the room (px), in the image."""
        return self.vectors(points - MIDDLE) + MIDDLE

    def poses(self, poses: Triples) -> Triples:
        """Poses in the room (px, px, rad), in the image."""
        angles = self.side * poses[..., 2:] + self.turn
        return jnp.concatenate([self.points(poses[..., :2]), angles], axis=-1)

    def motions(self, motions: Triples) -> Triples:
        """Velocities of a block, or differences between its poses, in the image."""
        return jnp.concatenate(
            [self.vectors(motions[..., :2]), self.side * motions[..., 2:]], axis=-1
        )

    def motions_of_room(self, motions: Triples) -> Triples:
        """The inverse of `motions`."""
        x, y = rotated_back(motions[..., 0], motions[..., 1], self.cos, self.sin)
        return jnp.stack([self.side * x, y, self.side * motions[..., 2]], axis=-1)


def changed_by_mirror(layout: StateLayout) -> np.ndarray:
    """(dim) which numbers of a state, in the T's frame, change their sign where x is mirrored."""
    changed = np.zeros(layout.dim, bool)
    changed[[plane.start for plane in layout.planes]] = True
    for turning in (layout.block_angle, layout.block_angular_velocity):
        if turning is not None:
            changed[turning] = True
    return changed
