"""Flow consistency: does one step to a time give the law that several steps give?

The law of a Markov process does (Chapman-Kolmogorov equation); a learned law may not, even if its
likelihood is high. Draws in one step are compared with draws in two and in ten equal steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, PRNGKeyArray

from nsf_pipeline.evaluation import metrics
from nsf_pipeline.evaluation.metrics import JOINTS, Resampler
from nsf_pipeline.evaluation.predictors import draws_in_steps
from nsf_pipeline.evaluation.states import Ensembles, States

STEPS = (2, 10)
"""Numbers of steps that one step is compared with."""
STATES, DRAWS = 256, 32
"""Test states per horizon, at most, half of them with contact; and draws from each. They are few
because every step costs as much as a draw."""
COLUMNS = (
    "model",
    "horizon_s",
    "group",
    "contact",
    "steps",
    "energy_distance",
    "energy_distance_lower",
    "energy_distance_upper",
    "n_states",
)


def measure(
    name: str,
    model: Any,
    horizon: float,
    ensemble: Ensembles,
    change: Float[np.ndarray, " 7"],
    seed: int,
    *,
    key: PRNGKeyArray,
) -> list[dict[str, Any]]:
    """Rows of `consistency.csv` for one model and horizon.

    Energy distances are computed as for `distances.csv`: fair, with every number divided by its
    typical change over the horizon. With `steps` = 1, one step is compared with one step drawn
    again; this distance is noise, and its interval shows how large the noise is.

    Args:
        name: the model's name in tables.
        model: any object with the method `rollout` of `PushTModel`.
        horizon: s.
        ensemble: the test states of the horizon.
        change: typical change of each of the state's numbers.
        seed: for the choice of states and for the resamples.
        key: for the draws.
    """
    random = np.random.default_rng([seed, ensemble.states.gap])
    strata = [np.flatnonzero(ensemble.contact == kind) for kind in (True, False)]
    rows = np.sort(np.concatenate([random.permutation(s)[: STATES // 2] for s in strata]))
    # A stratum keeps its share in means, however many of its states are taken.
    weight = ensemble.weight.copy()
    for stratum in strata:
        weight[stratum] *= len(stratum) / max(1, min(len(stratum), STATES // 2))
    states = States(*(values[rows] for values in ensemble.states))
    one = draws_in_steps(model, states, 1, DRAWS, key=jax.random.fold_in(key, 0))
    resampler = Resampler(ensemble.contact[rows], weight[rows], ensemble.trajectory[rows], seed)
    found = []
    for steps in (1, *STEPS):
        other = draws_in_steps(model, states, steps, DRAWS, key=jax.random.fold_in(key, steps))
        for group in JOINTS:
            of_one, of_other = (metrics.joint(group, draws, change) for draws in (one, other))
            if of_one is None or of_other is None:
                continue
            distance = metrics.energy_distance(of_one, of_other)
            for contact, values in resampler.means(distance[:, None]).items():
                value, lower, upper = metrics.estimate(values[:, 0])
                where = (name, horizon, group, contact, steps)
                size = resampler.sizes[contact]
                found.append(dict(zip(COLUMNS, (*where, value, lower, upper, size), strict=True)))
    return found


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`consistency.csv`."""
    return pd.DataFrame(rows, columns=list(COLUMNS))


def as_markdown(table: pd.DataFrame) -> list[str]:
    """A short table of poses at the longest horizon, the most consistent model first.

    Over all states; empty if there are no models.
    """
    if table.empty:
        return []
    horizon = table["horizon_s"].max()
    rows = table[
        (table["horizon_s"] == horizon) & (table["group"] == "pose") & (table["contact"] == "all")
    ]
    values = rows.pivot(index="model", columns="steps", values="energy_distance")
    lines = [
        f"| energy distance {horizon:g} s ahead, one step against | one step again: noise | "
        + " | ".join(f"{steps} steps" for steps in STEPS)
        + " |",
        "| --- |" + " ---: |" * (1 + len(STEPS)),
    ]
    for model, row in values.sort_values(STEPS[-1], kind="stable").iterrows():
        lines.append(f"| {model} | " + " | ".join(f"{row[n]:.2g}" for n in (1, *STEPS)) + " |")
    return lines
