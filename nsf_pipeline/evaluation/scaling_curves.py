"""The picture of the scaling curves."""

import pandas as pd

from nsf_pipeline.evaluation.scaling import METRIC, UNITS
from nsf_pipeline.evaluation.tables import FLOW
from nsf_pipeline.plotting import Figure

COLORS = ("#9ecae1", "#4292c6", "#2171b5", "#08306b")
"""From short horizons to long ones."""
NLL = "#d1495b"


def scaling_curves(table: pd.DataFrame) -> Figure:
    """A column for each axis: above, the block's CRPS over the simulator's own; below, the NLL.

    Intervals are left out: most of their width is due to the states, which all models share.

    Args:
        table: as `scaling.table` gives it.
    """
    axes = list(dict.fromkeys(table["axis"]))
    horizons = sorted(set(table["horizon_s"]))
    figure = Figure(figsize=(3.4 * len(axes) + 0.6, 5.6), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for axis, top, bottom in zip(axes, *panels, strict=True):
        rows = table[table["axis"] == axis]
        for number, horizon in enumerate(horizons):
            found = rows[rows["horizon_s"] == horizon]
            color = COLORS[number * len(COLORS) // len(horizons)]
            top.plot(found[axis], found[METRIC], "o-", color=color, ms=4, label=f"{horizon:g} s")
        found = rows[rows["horizon_s"] == horizons[0]]
        bottom.plot(found[axis], found["validation_nll"], "o-", color=NLL, ms=4)
        values = found[axis].tolist()
        bottom.set(xscale="log", xlabel=UNITS[axis])
        bottom.set_xticks(values, [_short(value) for value in values])
        bottom.minorticks_off()
        for panel in (top, bottom):
            panel.axvline(found[axis][found["model"] == FLOW].item(), color="0.7", ls=":", zorder=0)
            panel.grid(color="0.92")
            panel.spines[["top", "right"]].set_visible(False)
        top.axhline(1.0, color="k", ls="--", lw=1)
    panels[0, 0].set_ylabel("block: CRPS / the simulator's own")
    panels[1, 0].set_ylabel("validation NLL (nats)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _short(value: int) -> str:
    """A number with k for thousands and M for millions."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)
