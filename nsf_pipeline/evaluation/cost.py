"""A picture of accuracy against cost."""

from collections.abc import Mapping

import pandas as pd

from nsf_pipeline.evaluation.figures import styles_of
from nsf_pipeline.evaluation.metrics import Estimate
from nsf_pipeline.evaluation.speed import SIMULATED
from nsf_pipeline.evaluation.tables import SIMULATOR
from nsf_pipeline.plotting import Figure


def accuracy_against_cost(
    table: pd.DataFrame, crps: Mapping[str, Estimate], horizon: float
) -> Figure:
    """CRPS of the block's position against time per trajectory: lower left is better.

    A row of dots is one model: the larger the dot, the more trajectories at once. Upright lines
    are the 95 % intervals of the CRPS.

    Args:
        table: as `speed.time_all` gives it.
        crps: px, by model in the order of the other figures; simulators have the simulator's.
        horizon: s.
    """
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(set(table["at_once"]))
    styles = styles_of([*crps, *table["model"]])
    for name in dict.fromkeys(table["model"]):
        found = crps.get(SIMULATOR if name in SIMULATED else name)
        if found is None:
            continue
        color, marker = styles[name]
        rows = table[table["model"] == name].sort_values("at_once")
        areas = [20.0 + 100.0 * sizes.index(size) / len(sizes) for size in rows["at_once"]]
        score = [found.value] * len(rows)
        axes.plot(rows["seconds"], score, color=color, linewidth=1, alpha=0.5)
        axes.vlines(rows["seconds"], found.lower, found.upper, color=color, linewidth=1)
        axes.scatter(rows["seconds"], score, s=areas, color=color, marker=marker, label=name)
    axes.set(
        xscale="log",
        xlabel="time per predicted trajectory (s)",
        ylabel=f"CRPS of the block's position {horizon:g} s ahead (px)",
    )
    axes.set_ylim(0.0, 1.1 * axes.dataLim.ymax)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure
