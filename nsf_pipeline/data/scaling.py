"""Physical values scaled to [-1, 1] by their least and greatest value, and back."""

import numpy as np

Bound = np.ndarray | np.floating
"""Least or greatest values: one per dimension, or a number for arrays of one number per step."""


def bounds_range(low: Bound, high: Bound) -> np.ndarray:
    """high - low, or 1 if a dimension is constant."""
    return np.where(high > low, high - low, 1.0)


def scale(values: np.ndarray, low: Bound, high: Bound) -> np.ndarray:
    """Physical values to [-1, 1], float64: 2 (v - low) / (high - low) - 1."""
    return 2.0 * (np.asarray(values, np.float64) - low) / bounds_range(low, high) - 1.0


def unscale(values: np.ndarray, low: Bound, high: Bound) -> np.ndarray:
    """The inverse of `scale`: low + (v + 1) / 2 (high - low), rounded at the 12th decimal.

    Cast to float32, it gives what was stored before scaling, bit for bit (for magnitudes from
    2e-5 to 2000, and for 0, which only the rounding restores).
    """
    return np.round(low + (values + 1.0) / 2.0 * bounds_range(low, high), 12)
