"""Pictures: predicted against true block positions."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from nsf_pipeline.evaluation.states import States
from nsf_pipeline.files import replacing
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, t_outline

PREDICTED, TRUE, START = "#3b6fb6", "#d1495b", "#9aa0a6"
SCENES = 4
DRAWN = 40
"""Draws shown per scene."""
POINTS = 400
"""States shown per horizon."""


def block_positions(draws: dict[float, np.ndarray], states: dict[float, States]) -> Figure:
    """Above, predicted against true displacements; below, fans of predicted poses.

    Args:
        draws: by horizon in s, (n, draws, state_dim).
        states: by horizon in s.
    """
    horizons = sorted(draws)
    columns = max(len(horizons), SCENES)
    figure, axes = plt.subplots(
        2, columns, figsize=(3.3 * columns, 7.2), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(horizons) : columns]:
        axis.set_visible(False)
    for axis, horizon in zip(axes[0], horizons, strict=False):
        _displacements(axis, draws[horizon], states[horizon])
        axis.set_title(f"{horizon:g} s ahead")
    horizon = horizons[-1]
    chosen = _most_moved(states[horizon])
    for axis in axes[1, len(chosen) :]:
        axis.set_visible(False)
    for axis, row in zip(axes[1], chosen, strict=False):
        _scene(axis, draws[horizon][row], states[horizon], int(row))
    axes[0, 0].set_ylabel("predicted displacement of the block (px)")
    axes[1, 0].set_ylabel(f"poses drawn {horizon:g} s ahead (px)")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def _displacements(axis: Axes, draws: np.ndarray, states: States) -> None:
    start = states.x_init[:POINTS, -3:-1]
    true = states.x_final[:POINTS, -3:-1] - start
    predicted = draws[:POINTS, :, -3:-1] - start[:, None]
    low, high = np.quantile(predicted, [0.05, 0.95], axis=1)
    limit = 1.05 * max(np.abs(true).max(), 1.0)
    axis.plot([-limit, limit], [-limit, limit], color=START, linewidth=1)
    axis.vlines(true.ravel(), low.ravel(), high.ravel(), color=PREDICTED, alpha=0.25, linewidth=1)
    axis.plot(true.ravel(), predicted.mean(axis=1).ravel(), ".", color=PREDICTED, markersize=3)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="true displacement (px)")
    axis.set_aspect("equal")


def _most_moved(states: States) -> np.ndarray:
    """Evenly spaced among the tenth of the states whose block moved most."""
    moved = np.linalg.norm(states.x_final[:, -3:-1] - states.x_init[:, -3:-1], axis=-1)
    order = np.argsort(-moved, kind="stable")[: max(SCENES, len(moved) // 10)]
    return order[np.linspace(0, len(order) - 1, min(SCENES, len(order))).astype(int)]


def _scene(axis: Axes, draws: np.ndarray, states: States, row: int) -> None:
    for draw in draws[:DRAWN]:
        axis.add_patch(Polygon(t_outline(draw[-3:]), color=PREDICTED, alpha=1.5 / DRAWN, lw=0))
        axis.add_patch(Circle((draw[0], draw[1]), 3.0, color=PREDICTED, alpha=0.3, lw=0))
    for state, color in [(states.x_init[row], START), (states.x_final[row], TRUE)]:
        axis.add_patch(Polygon(t_outline(state[-3:]), fill=False, color=color, lw=1.6))
        axis.add_patch(Circle((state[0], state[1]), AGENT_RADIUS, fill=False, color=color, lw=1.6))
    axis.set(xlim=(0, 512), ylim=(512, 0), xticks=[], yticks=[])
    axis.set_aspect("equal")
