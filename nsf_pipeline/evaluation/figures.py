"""Pictures: skill against horizon, calibration, predicted and real block poses."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from nsf_pipeline.evaluation.metrics import GROUPS
from nsf_pipeline.evaluation.states import Ensembles, States
from nsf_pipeline.evaluation.tables import BINS, FLOORS, FLOW, PERSISTENCE, RANDOM, SIMULATOR
from nsf_pipeline.plotting import Axes, Circle, Figure, Line2D, Patch, Polygon
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, t_outline
from nsf_pipeline.pusht.state import STATE, layout_of

PREDICTED, TRUE, START = "#3b6fb6", "#d1495b", "#9aa0a6"
STYLES = {
    FLOW: (PREDICTED, "o"),
    "recursive": ("#e8871e", "s"),
    "kinematic": ("#4f9d69", "D"),
    "gaussian": ("#8e5ea2", "^"),
    "unconditional": ("#c2a83e", "v"),
    "path": ("#5b8c2a", "<"),
    "plain": ("#b03a2e", ">"),
    "no_consistency": ("#3aa6a6", "P"),
    "autonomous": ("#a0522d", "*"),
    "state5": ("#6b7280", "X"),
    "neural_sde": ("#c0517a", "p"),
    PERSISTENCE: (START, "d"),
    SIMULATOR: ("#000000", "o"),
    "simulator_all_cores": ("#4a4a4a", "s"),
    "gym_pusht": ("#8a8a8a", "D"),
}
"""A model's colour and marker, the same in every figure."""
OTHERS = ("#7f9c2f", "#e377c2", "#17becf", "#8c1c13", "#5a4fcf")
MARKERS = "h<>d"
"""Not as many as colours, so that pairs of colour and marker repeat late."""
SCENES = 4
DRAWN = 40
"""Draws shown per scene."""
OUTLINED = 12
"""How many of these draws are outlines."""
POINTS = 400
"""States shown per horizon."""
RATIO_TICKS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
MARGIN = 25.0
"""px round a scene."""


def styles_of(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker by model; models without a style of their own get one by their order."""
    others = [name for name in dict.fromkeys(models) if name not in STYLES]
    return STYLES | {
        name: (OTHERS[number % len(OTHERS)], MARKERS[number % len(MARKERS)])
        for number, name in enumerate(others)
    }


def skill(table: pd.DataFrame) -> Figure:
    """Skill, and CRPS relative to the simulator's own, against the horizon; over all states.

    Args:
        table: as `tables.intervals` gives it.
    """
    figure = Figure(figsize=(11.0, 6.4), layout="constrained")
    axes = figure.subplots(2, len(GROUPS), sharex=True, squeeze=False)
    of_all = table[table["contact"] == "all"]
    limits = {SIMULATOR: ("--", "simulator: the limit")}
    for name, style in zip(FLOORS, (":", "-."), strict=True):
        limits[name] = style, name.replace("_", " ")
    known = [model for model in dict.fromkeys(of_all["model"]) if model not in FLOORS]
    floors = (SIMULATOR, PERSISTENCE, RANDOM)  # drawn as a line, 0 by definition, far below
    models = [model for model in known if model not in floors]
    models.sort(key=lambda model: model != FLOW)
    styles = styles_of(known)
    horizons = sorted(set(of_all["horizon_s"]))
    for (top, bottom), group in zip(axes.T, GROUPS, strict=True):
        of_group = of_all[of_all["group"] == group].sort_values("horizon_s")
        for axis, metric in ((top, "skill"), (bottom, "crps_ratio")):
            rows = of_group[of_group["metric"] == metric]
            for model in models:
                row = rows[rows["model"] == model]
                (color, marker), front = styles[model], model == FLOW
                axis.plot(
                    row["horizon_s"],
                    row["value"],
                    color=color,
                    marker=marker,
                    markersize=5,
                    linewidth=2.2 if front else 1.3,
                    zorder=3 if front else 2,
                    label=model,
                )
                axis.fill_between(
                    row["horizon_s"], row["lower"], row["upper"], color=color, alpha=0.15, lw=0
                )
            for name, (style, label) in limits.items():
                limit = rows[rows["model"] == name]
                axis.plot(
                    limit["horizon_s"],
                    limit["value"],
                    f"k{style}",
                    lw=1.2,
                    zorder=4,
                    label=label,
                )
            axis.grid(color="0.92")
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_xticks(horizons, [f"{horizon:g}" for horizon in horizons])
        top.set(title=group.replace("_", " "), ylim=(min(-0.05, top.get_ylim()[0]), 1.03))
        bottom.set(xlabel="horizon (s)", yscale="log")
        low, high = bottom.get_ylim()
        low, high = min(low, 0.9), max(high, 2.0)
        ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
        bottom.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        bottom.minorticks_off()
        bottom.set_ylim(low, high)
    axes[0, 0].set_ylabel("skill (1: perfect, 0: persistence)")
    axes[1, 0].set_ylabel("CRPS / the simulator's own")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False
    )
    return figure


def calibration(table: pd.DataFrame, model: str = FLOW) -> Figure:
    """Histograms of where the truth lies among a model's draws, of all states and with contact.

    95 % of a calibrated law's bins lie within the band. It is as wide as the intervals of the
    simulator's own histogram.

    Args:
        table: as `tables.calibration` gives it.
        model: the model's name in the table.
    """
    horizons = sorted(set(table["horizon_s"]))
    figure = Figure(figsize=(max(2.9 * len(horizons), 6.0), 6.2), layout="constrained")
    axes = figure.subplots(len(GROUPS), len(horizons), sharex=True, sharey="row", squeeze=False)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    found = {
        place: rows for place, rows in table.groupby(["model", "contact", "horizon_s", "group"])
    }
    for line, group in zip(axes, GROUPS, strict=True):
        for axis, horizon in zip(line, horizons, strict=True):
            limit, own = (found[name, "all", horizon, group] for name in (SIMULATOR, model))
            half = BINS * (limit["share_upper"] - limit["share_lower"]).mean() / 2.0
            axis.axhspan(1.0 - half, 1.0 + half, color="0.85", zorder=0)
            axis.axhline(1.0, color="0.4", linewidth=0.8, zorder=1)
            style = {"color": PREDICTED, "alpha": 0.75, "zorder": 2}
            axis.stairs(BINS * own["share"], edges, fill=True, **style)
            touched = found.get((model, "contact", horizon, group))
            if touched is not None:
                axis.stairs(BINS * touched["share"], edges, color=TRUE, linewidth=1.3, zorder=3)
            axis.spines[["top", "right"]].set_visible(False)
            axis.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        line[0].set_ylabel(f"{group.replace('_', ' ')}\ndensity of truths")
    for axis, horizon in zip(axes[0], horizons, strict=True):
        axis.set_title(f"{horizon:g} s ahead")
    for axis in axes[-1]:
        axis.set_xlabel("rank of the truth among the draws")
    figure.legend(
        handles=[
            Patch(color=PREDICTED, alpha=0.75, label=f"{model}, all states"),
            Line2D([], [], color=TRUE, label=f"{model}, with contact"),
            Patch(color="0.85", label="95 % of the bins of a calibrated law"),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def block_positions(
    draws: Mapping[float, np.ndarray], ensembles: Mapping[float, Ensembles]
) -> Figure:
    """Above, predicted against true displacements; below, predicted and real poses of some states.

    Args:
        draws: by horizon in s, (n, draws, state_dim).
        ensembles: by horizon in s, from the same states.
    """
    horizons = sorted(draws)
    columns = max(len(horizons), SCENES)
    figure = Figure(figsize=(3.3 * columns, 7.4), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat[len(horizons) : columns]:
        axis.set_visible(False)
    for axis, horizon in zip(axes[0], horizons, strict=False):
        _displacements(axis, draws[horizon], ensembles[horizon].states)
        axis.set_title(f"{horizon:g} s ahead")
    horizon = horizons[-1]
    chosen = _most_moved(ensembles[horizon].states)
    for axis in axes[1, len(chosen) :]:
        axis.set_visible(False)
    for axis, row in zip(axes[1], chosen, strict=False):
        _scene(axis, draws[horizon][row], ensembles[horizon], int(row))
        axis.set_xlabel("x (px)")
    axes[0, 0].set_ylabel("predicted displacement of the block (px)")
    axes[1, 0].set_ylabel(f"poses {horizon:g} s ahead, y (px)")
    figure.legend(
        handles=[
            Patch(color=TRUE, alpha=0.35, label="the simulator's ensemble"),
            Line2D([], [], color=PREDICTED, label="draws of the flow"),
            Line2D([], [], color="k", linewidth=1.6, label="what happened"),
            Line2D([], [], color=START, linewidth=1.6, label="start"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def _displacements(axis: Axes, draws: np.ndarray, states: States) -> None:
    start = states.x_init[:POINTS, STATE.block_position]
    true = states.x_final[:POINTS, STATE.block_position] - start
    predicted = draws[:POINTS, :, layout_of(draws.shape[-1]).block_position] - start[:, None]
    low, high = np.quantile(predicted, [0.05, 0.95], axis=1)
    limit = 1.05 * max(np.abs(true).max(), 1.0)
    axis.plot([-limit, limit], [-limit, limit], color=START, linewidth=1)
    axis.vlines(true.ravel(), low.ravel(), high.ravel(), color=PREDICTED, alpha=0.25, linewidth=1)
    axis.plot(true.ravel(), predicted.mean(axis=1).ravel(), ".", color=PREDICTED, markersize=3)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="true displacement (px)")
    axis.set_aspect("equal")


def _most_moved(states: States) -> np.ndarray:
    """Rows of a few states, evenly spaced among the tenth whose block moved most."""
    change = states.x_final - states.x_init
    moved = np.linalg.norm(change[:, STATE.block_position], axis=-1)
    order = np.argsort(-moved, kind="stable")[: max(SCENES, len(moved) // 10)]
    return order[np.linspace(0, len(order) - 1, min(SCENES, len(order))).astype(int)]


def _scene(axis: Axes, draws: np.ndarray, ensembles: Ensembles, row: int) -> None:
    states, members = ensembles.states, ensembles.members[row, :DRAWN]
    layout = layout_of(draws.shape[-1])
    for member in members:
        outline = t_outline(member[STATE.block])
        axis.add_patch(Polygon(outline, color=TRUE, alpha=2.0 / DRAWN, linewidth=0, zorder=1))
    axis.plot(*members[:, STATE.agent].T, ".", color=TRUE, markersize=4, alpha=0.5, zorder=2)
    for draw in draws[:OUTLINED]:
        _outline(axis, draw[layout.block], PREDICTED, 0.7)
    axis.plot(
        *draws[:DRAWN, layout.agent].T, "x", color=PREDICTED, markersize=3.5, alpha=0.7, zorder=3
    )
    poses = (*members[:, STATE.block], *draws[:OUTLINED, layout.block])
    corners = [t_outline(pose) for pose in poses]
    for state, color in [(states.x_init[row], START), (states.x_final[row], "k")]:
        agent, block = state[STATE.agent], state[STATE.block]
        _outline(axis, block, color, 1.4)
        x, y = agent
        circle = Circle((x, y), AGENT_RADIUS, fill=False, edgecolor=color, zorder=4)
        axis.add_patch(circle)
        corners += [t_outline(block), agent + AGENT_RADIUS * np.array([[-1], [1]])]
    seen = np.concatenate(corners)
    centre = (seen.min(axis=0) + seen.max(axis=0)) / 2.0
    reach = np.ptp(seen, axis=0).max() / 2.0 + MARGIN
    axis.set(
        xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] + reach, centre[1] - reach)
    )
    axis.set_aspect("equal")


def _outline(axis: Axes, pose: np.ndarray, color: str, width: float) -> None:
    corners = t_outline(pose)
    axis.add_patch(Polygon(corners, fill=False, edgecolor=color, linewidth=width, zorder=3))
