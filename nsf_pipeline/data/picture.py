"""A picture of a data set: paths, starts, coverage and contact."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nsf_pipeline.data import store
from nsf_pipeline.data.merge import block_moved
from nsf_pipeline.data.scenes import FACTORS, in_row
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.plotting import Axes, Figure, Line2D, LineCollection, Patch, Polygon
from nsf_pipeline.pusht.factors import Factors
from nsf_pipeline.pusht.geometry import SUCCESS_THRESHOLD, WORKSPACE, t_outline
from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import CONTROL_DT

CONTACT, PUSH, APART, GOAL, LINE = "#8fb0dd", "#3b6fb6", "#cbab78", "#b5e6b5", "#9aa0a6"
STARTS = {True: LINE, False: "#d1495b"}
"""Colours of starts, by `from_reset`."""
PATHS = 200
"""Trajectories whose paths are drawn, evenly spaced in the data set."""
POSES = 20
"""How many of these are drawn with the outline of the block at the start."""
BINS = 40
"""Bins of the histogram of last coverages, over [0, 1]."""
KINDS = {True: "started by a reset", False: "started in mid-task (red)"}
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.06), "frameon": False}


@dataclass
class Sample:
    """The trajectories whose paths are drawn; each list has one entry per trajectory.

    Attributes:
        agent: (length + 1, 2) px.
        block: (length + 1, 3) px, px, rad.
        moved: (length) bool: the step moved the block.
        from_reset: whether the trajectory started at a reset.
        factors: of its scene.
    """

    agent: list[np.ndarray] = field(default_factory=list)
    block: list[np.ndarray] = field(default_factory=list)
    moved: list[np.ndarray] = field(default_factory=list)
    from_reset: list[bool] = field(default_factory=list)
    factors: list[Factors] = field(default_factory=list)


@dataclass
class Summary:
    """The numbers that the picture of a data set shows.

    Attributes:
        coverage: (n) last coverage of each trajectory.
        taken: for each value of `from_reset`, (T) number of trajectories that took each step.
        moved: for each value of `from_reset`, (T) number of these whose block moved in the step.
        sample: trajectories whose paths are drawn.
    """

    coverage: np.ndarray
    taken: dict[bool, np.ndarray]
    moved: dict[bool, np.ndarray]
    sample: Sample


def summarise(file: Any) -> Summary:
    """Compute the picture's numbers, with one block of trajectories in memory at a time.

    Args:
        file: the open data set, from `store.reading`.
    """
    count, steps = file["action_mask"].shape
    chosen = _evenly(count, PATHS)
    summary = Summary(
        np.empty(count),
        {kind: np.zeros(steps, int) for kind in KINDS},
        {kind: np.zeros(steps, int) for kind in KINDS},
        Sample(),
    )
    names = ["observations", "block_angle", "action_mask", "coverage", "length", "from_reset"]
    names += [FACTORS] if FACTORS in file else []
    for rows in store.blocks(count):
        arrays = {name: store.physical(file, name, rows) for name in names}
        moved = block_moved(arrays)
        _add(summary, rows, arrays, moved)
        here = chosen[(chosen >= rows.start) & (chosen < rows.stop)] - rows.start
        for row in here.tolist():
            _sample(summary.sample, row, arrays, moved)
    return summary


def _evenly(count: int, most: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _add(summary: Summary, rows: slice, arrays: dict[str, np.ndarray], moved: np.ndarray) -> None:
    last = arrays["length"] - 1
    summary.coverage[rows] = arrays["coverage"][np.arange(len(last)), last]
    for kind in KINDS:
        of_kind = arrays["from_reset"] == kind
        summary.taken[kind] += arrays["action_mask"][of_kind].sum(axis=0)
        summary.moved[kind] += moved[of_kind].sum(axis=0)


def _sample(sample: Sample, row: int, arrays: dict[str, np.ndarray], moved: np.ndarray) -> None:
    layout = STATE_WITHOUT_VELOCITY
    of_row = {name: arrays[name][row] for name in state_parts(layout)}
    states = join_state(of_row, layout)[: arrays["length"][row] + 1]
    sample.agent.append(states[:, layout.agent])
    sample.block.append(states[:, layout.block])
    sample.moved.append(moved[row, : arrays["length"][row]])
    sample.from_reset.append(bool(arrays["from_reset"][row]))
    sample.factors.append(in_row(arrays, row))


def picture(summary: Summary) -> Figure:
    """Above, the agents' and the blocks' paths; below, last coverage and share of contact."""
    figure = Figure(figsize=(10.5, 9.0), layout="constrained")
    (agent, block), (coverage, contact) = figure.subplots(2, 2, height_ratios=[1.7, 1.0])
    _agent_paths(agent, summary.sample)
    _block_paths(block, summary.sample)
    _coverage(coverage, summary.coverage)
    _contact(contact, summary)
    steps = sum(taken.sum() for taken in summary.taken.values())
    share = sum(moved.sum() for moved in summary.moved.values()) / steps
    count = len(summary.coverage)
    figure.suptitle(f"{count:,} trajectories, {steps:,} steps, {share:.1%} of which move the block")
    return figure


def _agent_paths(axis: Axes, sample: Sample) -> None:
    _workspace(axis, f"{len(sample.agent)} paths of the agent (px)", sample)
    for path, moved in zip(sample.agent, sample.moved, strict=True):
        axis.plot(*path.T, color=CONTACT if moved.any() else APART, linewidth=0.8)
        pushes = np.stack([path[:-1], path[1:]], axis=1)[moved]
        axis.add_collection(LineCollection(list(pushes), colors=PUSH, linewidths=1.4, zorder=3))
    handles = [
        Line2D([], [], color=APART, linewidth=0.8, label="never moves the block"),
        Line2D([], [], color=CONTACT, linewidth=0.8, label="does at some time"),
        Line2D([], [], color=PUSH, linewidth=1.4, label="while it does"),
    ]
    axis.legend(handles=handles, ncols=3, **BELOW)


def _block_paths(axis: Axes, sample: Sample) -> None:
    _workspace(axis, f"{len(sample.block)} paths of the block (px)", sample)
    for path, moved in zip(sample.block, sample.moved, strict=True):
        if moved.any():
            axis.plot(*path[:, :2].T, color=PUSH, linewidth=0.8)
            axis.plot(*path[-1, :2], ".", color=PUSH, markersize=4)
    posed = _evenly(len(sample.block), POSES)
    for row in posed:
        outline = t_outline(sample.block[row][0], sample.factors[row].block_scale)
        colour = STARTS[sample.from_reset[row]]
        axis.add_patch(Polygon(outline, fill=False, color=colour, lw=1.2, zorder=3))
    handles = [
        Line2D([], [], color=PUSH, linewidth=0.8, marker=".", label="path to its end"),
        Patch(fill=False, edgecolor=STARTS[True], label=f"{len(posed)} starts"),
        Patch(color=GOAL, label="goal"),
    ]
    axis.legend(handles=handles, ncols=3, **BELOW)


def _workspace(axis: Axes, title: str, sample: Sample) -> None:
    """The workspace, with the goals of those trajectories whose starts are drawn."""
    drawn = [sample.factors[row] for row in _evenly(len(sample.factors), POSES)]
    goals = dict.fromkeys((each.goal_pose, each.block_scale) for each in drawn)
    for pose, scale in goals:
        outline = t_outline(np.array(pose), scale)
        alpha = 1.0 if len(goals) == 1 else 0.3
        axis.add_patch(Polygon(outline, color=GOAL, lw=0, zorder=0, alpha=alpha))
    ticks = np.linspace(*WORKSPACE, 3)
    axis.set(xlim=WORKSPACE, ylim=WORKSPACE[::-1], xticks=ticks, yticks=ticks, title=title)
    axis.set_aspect("equal")


def _coverage(axis: Axes, coverage: np.ndarray) -> None:
    counts, edges = np.histogram(coverage, BINS, (0.0, 1.0))
    axis.stairs(counts, edges, fill=True, color=PUSH)
    axis.axvline(SUCCESS_THRESHOLD, color=LINE, linewidth=1, linestyle="--")
    none, succeed = (coverage == 0).mean(), (coverage > SUCCESS_THRESHOLD).mean()
    text = f"nothing: {none:.1%}\nmean: {coverage.mean():.1%}\nsuccess (dashed): {succeed:.2%}"
    axis.text(0.93, 0.95, text, ha="right", va="top", transform=axis.transAxes)
    axis.set(xlim=(0, 1), xlabel="share of the goal covered at the end", ylabel="trajectories")
    axis.set(yscale="log", ylim=(0.8, None))
    axis.spines[["top", "right"]].set_visible(False)


def _contact(axis: Axes, summary: Summary) -> None:
    edges = CONTROL_DT * np.arange(len(summary.taken[True]) + 1)
    for kind, colour in [(True, PUSH), (False, STARTS[False])]:
        taken, moved = summary.taken[kind], summary.moved[kind]
        if taken.any():
            share = np.divide(moved, taken, out=np.full(len(taken), np.nan), where=taken > 0)
            label = f"{KINDS[kind]}: {moved.sum() / taken.sum():.1%} over all time"
            axis.stairs(share, edges, baseline=None, color=colour, linewidth=1.6, label=label)
    axis.set(xlim=(0, edges[-1]), ylim=(0, 1))
    axis.set(xlabel="time (s)", ylabel="share of steps that move the block")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper left", frameon=False)
