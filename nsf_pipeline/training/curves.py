"""A picture of the history of training: train and validation side by side."""

from collections.abc import Mapping, Sequence

from nsf_pipeline.plotting import Axes, Figure
from nsf_pipeline.training.table import best_of

TRAINING, VALIDATION, OTHER, LINE = "#3b6fb6", "#d1495b", "#cbab78", "#9aa0a6"
Rows = Sequence[Mapping[str, int | float]]


def picture(rows: Rows) -> Figure:
    """Likelihood, consistency and gradients over the steps.

    Args:
        rows: those of metrics.csv.
    """
    figure = Figure(figsize=(13.2, 3.8), layout="constrained")
    likelihood, consistency, gradients = figure.subplots(1, 3)
    steps = [row["step"] for row in rows]

    def line(axes: Axes, name: str, text: str, color: str) -> None:
        axes.plot(steps, [row[name] for row in rows], ".-", color=color, label=text, markersize=4)

    line(likelihood, "nll", "train", TRAINING)
    line(likelihood, "validation_nll", "validation", VALIDATION)
    best = best_of(rows)
    likelihood.plot(
        best["step"], best["validation_nll"], "o", color=VALIDATION, fillstyle="none", markersize=9
    )
    likelihood.annotate(
        f"best: {best['validation_nll']:.3f}",
        (best["step"], best["validation_nll"]),
        xytext=(0, 12),
        textcoords="offset points",
        ha="right",
        color=VALIDATION,
    )
    likelihood.set(ylabel="negative log-likelihood (nats)")
    line(consistency, "one_to_two", "one step to two", TRAINING)
    line(consistency, "two_to_one", "two steps to one", OTHER)
    if any(row["distillation"] for row in rows):
        line(consistency, "distillation", "distillation", VALIDATION)
    consistency.axhline(0.0, color=LINE, linewidth=0.8)
    consistency.set(ylabel="flow consistency (nats)", yscale="symlog")
    line(gradients, "gradient_norm", "norm before clipping", TRAINING)
    gradients.set(ylabel="gradient of the likelihood", yscale="log")
    share = gradients.twinx()
    line(share, "clipped", "share of steps clipped (right)", OTHER)
    share.set(ylim=(-0.02, 1.02))
    for axes in (likelihood, consistency, gradients):
        axes.set(xlabel="step")
        axes.grid(alpha=0.3)
    for axes in (likelihood, consistency):
        axes.legend(frameon=False)
    drawn = [*gradients.lines, *share.lines]
    gradients.legend(drawn, [str(each.get_label()) for each in drawn], frameon=False)
    return figure


def plain_picture(rows: Rows) -> Figure:
    """Every number of a history against the step, for a model that trains by its own code.

    Args:
        rows: with a step, seconds, and the same other names in each.
    """
    figure = Figure(figsize=(6.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name in list(rows[0])[2:] if rows else []:
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], ".-", label=name)
    if axes.lines:
        axes.legend(frameon=False)
    axes.set(xlabel="step")
    axes.grid(alpha=0.3)
    return figure
