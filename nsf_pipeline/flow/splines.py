"""Monotone rational-quadratic splines (Durkan et al. 2019, Neural Spline Flows).

Inside the box [-BOX, BOX] the map consists of K rational-quadratic pieces; outside, straight lines
continue it. The map, its inverse and its slope have closed forms, and the slope is continuous and
bounded away from 0. With enough bins the pieces approximate any smooth monotone map. With all
parameters 0 the map is the identity.
"""

from typing import NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BOX = 5.0
"""Half the width of the box: five standard deviations of a standardised coordinate."""
LEAST_BIN = 0.1
"""Least width and height of a bin, as a share of those that equal bins would have."""
LOG_SLOPE_BOUND = 4.0
"""Bound of the log-slopes at the knots."""


def num_parameters(num_bins: int) -> int:
    """Parameters per coordinate: a width and a height per bin, a slope per knot."""
    return 3 * num_bins + 1


@final
class Spline(NamedTuple):
    """A monotone map of each coordinate, given by its knots.

    Attributes:
        x: (dim, knots) increasing.
        y: (dim, knots) what x is mapped to, increasing.
        slope: (dim, knots) dy/dx at x, positive.
    """

    x: Float[Array, "dim knots"]
    y: Float[Array, "dim knots"]
    slope: Float[Array, "dim knots"]

    @classmethod
    def of(cls, raw: Float[Array, "dim parameters"]) -> "Spline":
        """The spline with the given unbounded parameters, `num_parameters` per coordinate."""
        bins = raw.shape[1] // 3
        widths, heights, slopes = raw[:, :bins], raw[:, bins : 2 * bins], raw[:, 2 * bins :]
        log_slope = LOG_SLOPE_BOUND * jnp.tanh(slopes / LOG_SLOPE_BOUND)
        return cls(_knots(widths), _knots(heights), jnp.exp(log_slope))

    def forward(self, x: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """y, and the logarithm of dy/dx, coordinate by coordinate."""
        inside = jnp.clip(x, self.x[:, 0], self.x[:, -1])
        piece = self._piece(inside, self.x)
        y, log_slope = piece.at((inside - piece.x) / piece.width)
        end = jnp.where(x > inside, piece.right, piece.left)
        log_slope = jnp.where(x == inside, log_slope, jnp.log(end))
        return y + (x - inside) * end, log_slope

    def inverse(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """x, and the logarithm of dx/dy, coordinate by coordinate."""
        inside = jnp.clip(y, self.y[:, 0], self.y[:, -1])
        piece = self._piece(inside, self.y)
        # The root in [0, 1] of a place^2 + b place = s rise, in the form without cancellation.
        rise, s = inside - piece.y, piece.mean_slope
        bend = rise * (piece.left + piece.right - 2.0 * s)
        a = piece.height * (s - piece.left) + bend
        b = piece.height * piece.left - bend
        root = jnp.sqrt(jnp.maximum(b**2 + 4.0 * a * s * rise, 1e-12))
        place = jnp.clip(2.0 * s * rise / (b + root), 0.0, 1.0)
        _, log_slope = piece.at(place)
        x = piece.x + place * piece.width
        end = jnp.where(y > inside, piece.right, piece.left)
        log_slope = jnp.where(y == inside, log_slope, jnp.log(end))
        return x + (y - inside) / end, -log_slope

    def _piece(self, values: Array, knots: Array) -> "Piece":
        """The piece that each value lies in; a masked sum, which compiles better than a gather."""
        index = jnp.sum(values[:, None] >= knots[:, 1:-1], axis=1, keepdims=True)
        chosen = index == jnp.arange(knots.shape[1] - 1)
        widths, heights = jnp.diff(self.x, axis=1), jnp.diff(self.y, axis=1)
        starts = self.x[:, :-1], self.y[:, :-1]
        per_bin = jnp.stack([*starts, widths, heights, self.slope[:, :-1], self.slope[:, 1:]])
        return Piece(*jnp.sum(jnp.where(chosen, per_bin, 0.0), axis=2))


@final
class Piece(NamedTuple):
    """A rational-quadratic piece per coordinate: lower corner, size, and slopes at both ends."""

    x: Float[Array, " dim"]
    y: Float[Array, " dim"]
    width: Float[Array, " dim"]
    height: Float[Array, " dim"]
    left: Float[Array, " dim"]
    right: Float[Array, " dim"]

    @property
    def mean_slope(self) -> Float[Array, " dim"]:
        """Height divided by width."""
        return self.height / self.width

    def at(self, place: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """The value and its log-slope at a place in [0, 1] (Durkan et al. 2019, eqs. 4 and 5)."""
        s, rest = self.mean_slope, 1.0 - place
        below = s + (self.left + self.right - 2.0 * s) * place * rest
        value = self.y + self.height * (s * place**2 + self.left * place * rest) / below
        above = self.right * place**2 + 2.0 * s * place * rest + self.left * rest**2
        return value, 2.0 * jnp.log(s) + jnp.log(above) - 2.0 * jnp.log(below)


def _knots(raw: Float[Array, "dim bins"]) -> Float[Array, "dim knots"]:
    """Knots from -BOX to BOX, evenly spaced where the parameters are equal."""
    bins = raw.shape[1]
    shares = LEAST_BIN / bins + (1.0 - LEAST_BIN) * jax.nn.softmax(raw, axis=1)
    edges = jnp.cumsum(shares, axis=1)
    return 2.0 * BOX * jnp.pad(edges, ((0, 0), (1, 0))) - BOX
