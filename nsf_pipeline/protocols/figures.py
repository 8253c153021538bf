"""Figures of episodes."""

from collections.abc import Sequence

import numpy as np

from nsf_pipeline.data.schema import NEVER
from nsf_pipeline.planning.goal import mass_centre
from nsf_pipeline.plotting import Axes, Figure, Polygon
from nsf_pipeline.protocols.rows import Row
from nsf_pipeline.protocols.tables import Played
from nsf_pipeline.pusht.episode import MAX_STEPS
from nsf_pipeline.pusht.geometry import GOAL_POSE, WORKSPACE, t_outline
from nsf_pipeline.pusht.state import STATE

SHOWN = Row("contact", "flow_4")
"""Where the episodes of this row start is shown."""
ARROW = 18.0
"""px; a line from the block's centre of mass shows where its stem points."""


def starts(played: Sequence[Played]) -> Figure:
    """Where the block lies at the start and how long it took; and how soon each row succeeds.

    Args:
        played: rows of the standard protocol; the starts are shown of `SHOWN`, or the first row.
    """
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    of = {each.row.name: each for each in played}
    _map(figure, left, of.get(SHOWN.name, played[0]))
    for each in played:
        first = each.arrays["first_step"][:, 0]
        steps = np.sort(first[first != NEVER])
        share = np.arange(1, len(steps) + 1) / len(first)
        noise = each.row.action_noise_std
        right.step(
            np.concatenate([[0], steps, [MAX_STEPS]]),
            np.concatenate([[0.0], share, share[-1:] if len(share) else [0.0]]),
            where="post",
            linewidth=1.2,
            linestyle=":" if noise else "-",
            label=f"{each.row.planner}, {each.row.model}, {noise:g} px of noise",
        )
    right.set(
        xlabel="steps",
        ylabel="share of episodes with a coverage above 0.95",
        xlim=(0, MAX_STEPS),
        ylim=(0, 1.01),
    )
    right.grid(alpha=0.3)
    right.legend(frameon=False, fontsize=7)
    return figure


def _map(figure: Figure, axes: Axes, each: Played) -> None:
    """The starts of a row's episodes, coloured by the steps until the first success."""
    poses, first = each.arrays["initial_state"][:, STATE.block], each.arrays["first_step"][:, 0]
    centres, succeeds = mass_centre(poses), first != NEVER
    # The T's stem points along its own y axis.
    ways = ARROW * np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=-1)
    for centre, way in zip(centres, ways, strict=True):
        axes.plot(*np.stack([centre, centre + way], axis=1), color="#9aa0a6", linewidth=0.7)
    points = axes.scatter(
        centres[succeeds, 0],
        centres[succeeds, 1],
        c=first[succeeds],
        s=16,
        cmap="viridis",
        vmin=0,
        zorder=2,
    )
    axes.plot(*centres[~succeeds].T, "x", color="#d1495b", markersize=8, zorder=3)
    axes.add_patch(Polygon(t_outline(GOAL_POSE), fill=False, edgecolor="#4f9d69", linewidth=2))
    axes.set(
        xlim=WORKSPACE,
        ylim=WORKSPACE[::-1],
        xlabel="px",
        ylabel="px",
        title=f"{each.row.planner}, {each.row.model}: starts of the block (crosses: no success)",
    )
    axes.title.set_fontsize(9)
    axes.set_aspect("equal")
    figure.colorbar(points, ax=axes, label="steps to a coverage above 0.95")
