"""Scores of predicted laws, given by draws, against the truth and against the simulator's own law.

A new metric is one entry of `METRICS`: all tables and their notes follow from the entries.

All estimators are fair: their expectation is the score of the law itself, whatever the number of
draws, so laws with few draws can be compared with laws with many. A prediction without spread
repeats its one value as every draw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Literal, NamedTuple, final

import numpy as np
import scoringrules
from jaxtyping import Bool, Float, Int

from nsf_pipeline import checks
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.state import STATE, layout_of

INTERVALS = (0.5, 0.9)
RESAMPLES = 1000
CONFIDENCE = 0.95
CHUNK = 256
"""States in memory at once, at most."""
PAIRS = CHUNK * 128 * 128
"""Pairs of draws in memory at once, at most: of fewer states if each has many draws."""
ROUNDING = 1e-9
"""In the unit of any score; what is less is 0, up to rounding."""
BINS = 20
"""Bins of a PIT histogram."""


class Group(NamedTuple):
    """Components that are scored together.

    Attributes:
        name: in tables and in `StateLayout.groups`, which gives the columns.
        unit: of the scores.
        factor: from the state's unit to this one.
    """

    name: str
    unit: str
    factor: float

    def of(self, values: np.ndarray) -> np.ndarray:
        """The components (..., k) of states (..., state_dim), in the group's unit."""
        columns = layout_of(values.shape[-1]).groups[self.name]
        return values[..., columns].astype(np.float64) * self.factor


GROUPS = {
    group.name: group
    for group in (
        Group("agent", "px", 1.0),
        Group("block_position", "px", 1.0),
        Group("block_angle", "degrees", 180.0 / np.pi),
    )
}
JOINTS = ("state", "pose")
"""Groups that are scored as one vector: the state, and the pose, which every model predicts."""


def joint(
    name: str, values: Float[np.ndarray, "*batch dim"], change: Float[np.ndarray, " 7"]
) -> Float[np.ndarray, "*batch k"] | None:
    """The components of one of `JOINTS`, in units of their typical change over the horizon.

    Args:
        name: one of `JOINTS`.
        values: states.
        change: typical change of each number of `STATE`.

    Returns:
        None if the states lack a component: without velocity there is no `state`.
    """
    columns = layout_of(values.shape[-1]).groups.get(name)
    return None if columns is None else values[..., columns] / change[STATE.groups[name]]


def crps(
    draws: Float[np.ndarray, "n draws dim"], truth: Float[np.ndarray, "n dim"]
) -> Float[np.ndarray, " n"]:
    """Continuous ranked probability score, mean over components.

    Computed by probability-weighted moments, without a table of all pairs of draws. All angles are
    continuous, so differences need no wrapping.
    """
    draws, truth = _laws(draws=(draws, 2)) + _truths(draws, truth)
    # With Numba installed, another backend would be taken.
    scores = scoringrules.crps_ensemble(truth, draws, m_axis=1, estimator="pwm", backend="numpy")
    return np.asarray(scores).mean(axis=-1)


def pit(
    draws: Float[np.ndarray, "n draws dim"],
    truth: Float[np.ndarray, "n dim"],
    random: np.random.Generator,
) -> Float[np.ndarray, "n dim"]:
    """Probability integral transform: the truth's rank among the draws, spread over [0, 1).

    Uniform if the truth and the draws follow the same law, whatever the number of draws. Draws that
    equal the truth (such as a block at rest) are ranked at random around it (Czado et al. 2009,
    doi:10.1111/j.1541-0420.2009.01191.x).
    """
    draws, truth = _laws(draws=(draws, 1)) + _truths(draws, truth)
    observed = truth[:, None]
    below, equal = ((draws < observed).sum(axis=1), (draws == observed).sum(axis=1))
    rank = below + random.integers(0, equal + 1)
    return (rank + random.random(rank.shape)) / (draws.shape[1] + 1)


def covered(pit: np.ndarray, share: float) -> np.ndarray:
    """Whether the truth lies in the central interval that holds a share of the law.

    Raises:
        ValueError: a rank or the share is not in [0, 1].
    """
    checks.numbers("pit", pit, least=0.0, most=1.0)
    checks.number("share", share, least=0.0, most=1.0)
    return np.abs(pit - 0.5) < share / 2.0


def mean_distance(
    one: Float[np.ndarray, "n a dim"], other: Float[np.ndarray, "n b dim"] | None = None
) -> Float[np.ndarray, " n"]:
    """Mean Euclidean distance between draws of two laws, or between different draws of one law."""
    if other is None:
        (one,) = _laws(draws=(one, 2))
    else:
        one, other = _laws(one=(one, 1), other=(other, 1))
    width = (one if other is None else other).shape[1]
    pairs = one.shape[1] * (width - (other is None))
    states = min(CHUNK, max(1, PAIRS // (one.shape[1] * width)))
    draws = max(1, PAIRS // (states * width))
    result = np.zeros(len(one))
    for first in range(0, len(one), states):
        part = slice(first, first + states)
        a = one[part].astype(np.float64)
        centre = a.mean(axis=1, keepdims=True)  # keeps the digits of small differences
        a = a - centre
        b = a if other is None else other[part].astype(np.float64) - centre
        for row in range(0, a.shape[1], draws):
            some = a[:, row : row + draws]
            squared = (
                np.square(some).sum(axis=-1)[:, :, None]
                + np.square(b).sum(axis=-1)[:, None, :]
                - 2.0 * some @ b.transpose(0, 2, 1)
            )
            distances = np.sqrt(np.maximum(squared, 0.0))
            if other is None:
                # The distance of a draw to itself is exactly 0; rounding may give more.
                own = np.arange(some.shape[1])
                distances[:, own, row + own] = 0.0
            result[part] += distances.sum(axis=(1, 2)) / pairs
    return result


def energy_score(
    draws: Float[np.ndarray, "n draws dim"], truth: Float[np.ndarray, "n dim"]
) -> Float[np.ndarray, " n"]:
    """E|X - y| - E|X - X'| / 2, of draws X and the truth y (Gneiting and Raftery 2007)."""
    draws, truth = _laws(draws=(draws, 2)) + _truths(draws, truth)
    return mean_distance(draws, truth[:, None]) - mean_distance(draws) / 2.0


def energy_distance(
    one: Float[np.ndarray, "n a dim"], other: Float[np.ndarray, "n b dim"]
) -> Float[np.ndarray, " n"]:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, by U-statistics: 0 on average for equal laws.

    Székely and Rizzo 2013, doi:10.1016/j.jspi.2013.03.018.
    """
    return 2.0 * mean_distance(one, other) - mean_distance(one) - mean_distance(other)


def squared_bias(
    one: Float[np.ndarray, "n a dim"], other: Float[np.ndarray, "n b dim"]
) -> Float[np.ndarray, " n"]:
    """Squared difference of two laws' means, mean over components.

    The part that comes from the noise of the draws is subtracted: 0 on average for equal laws.
    """
    laws = _laws(one=(one, 2), other=(other, 2))
    (mean, noise), (other_mean, other_noise) = map(_mean_and_noise, laws)
    return (np.square(mean - other_mean) - noise - other_noise).mean(axis=-1)


def _laws(**laws: tuple[np.ndarray, int]) -> tuple[np.ndarray, ...]:
    """Draws of laws, by name, each with the fewest that its score needs.

    Raises:
        ValueError: a law has fewer draws or another shape, a number is not finite, or the laws do
            not belong to the same states.
    """
    size: tuple[int | None, ...] = (None, None, None)
    for name, (draws, fewest) in laws.items():
        shape = np.shape(draws)
        checks.require_shape(name, shape, size)
        if shape[1] < fewest:
            raise UserError(f"expected {name} of at least {fewest} draws per state, got {shape[1]}")
        checks.numbers(name, draws)
        size = (shape[0], None, shape[2])
    return tuple(draws for draws, _ in laws.values())


def _truths(draws: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray]:
    """The truth of each state, of the same components as its draws."""
    count, _, dim = np.shape(draws)
    checks.numbers("truth", truth, (count, dim))
    return (truth,)


def _mean_and_noise(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return draws.mean(axis=1), draws.var(axis=1, ddof=1) / draws.shape[1]


def gaussian_log_density(error: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(n) nats: log-density of errors (n, d) under independent Gaussians.

    Raises:
        ValueError: a number is not finite, or a standard deviation not positive.
    """
    error = checks.numbers("error", error, (None, None))
    std = checks.numbers("std", std, above=0.0)
    return -0.5 * np.sum((error / std) ** 2 + np.log(2.0 * np.pi * std**2), axis=-1)


class Resampler:
    """Means over the states of a horizon, and over bootstrap resamples of their trajectories.

    A trajectory is resampled with all its states, because they are not independent. States with and
    without contact are strata: means over all states weight them by their shares in the test
    split, which are the same in all resamples.
    """

    def __init__(
        self,
        contact: Bool[np.ndarray, " n"],
        weight: Float[np.ndarray, " n"],
        trajectory: Int[np.ndarray, " n"],
        seed: int,
    ) -> None:
        """Draw the resamples. All means use the same ones, so that ratios of means are paired.

        Args:
            contact: which states have contact.
            weight: of each state in means over all states.
            trajectory: index of each state's trajectory.
            seed: of the resamples.

        Raises:
            ValueError: there is no state, the arrays do not belong together, or the weights are
                negative or all 0.
        """
        checks.whole("number of states", len(contact), 1)
        checks.numbers("weight", weight, (len(contact),), least=0.0)
        checks.number("sum of weights", np.sum(weight), above=0.0)
        checks.require_shape("trajectory", np.shape(trajectory), (len(contact),))
        checks.whole("seed", seed, most=2**64 - 1)
        random = np.random.default_rng(seed)
        distinct, which = np.unique(trajectory, return_inverse=True)
        count = len(distinct)
        drawn = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        counts = np.concatenate([np.ones((1, count)), drawn])[:, which]
        self._strata: list[tuple[str, np.ndarray, np.ndarray, float]] = []
        for name, among in (("contact", contact), ("free", ~contact)):
            rows = np.flatnonzero(among)
            if len(rows):
                shares = counts[:, rows]
                total = shares.sum(axis=1, keepdims=True)
                # A resample may have no trajectory of a small stratum; its mean is then undefined.
                shares = shares / np.where(total > 0.0, total, np.nan)
                self._strata.append((name, rows, shares, weight[rows].sum() / weight.sum()))
        self.sizes = {name: len(rows) for name, rows, _, _ in self._strata}
        self.sizes["all"] = len(contact)

    def means(self, values: Float[np.ndarray, "n k"]) -> dict[str, np.ndarray]:
        """By stratum, (1 + RESAMPLES, k): first the means, then those over each resample."""
        found = {
            # Not by BLAS, whose sums depend on the number of threads.
            name: np.einsum("rn,nk->rk", shares, values[rows])
            for name, rows, shares, _ in self._strata
        }
        found["all"] = sum(
            (share * found[name] for name, _, _, share in self._strata),
            start=np.zeros((1, 1)),
        )
        return found


class Estimate(NamedTuple):
    """A number with the central 95 % interval of its resamples; NaN where it is undefined."""

    value: float
    lower: float
    upper: float


def estimate(resampled: Float[np.ndarray, " resamples"]) -> Estimate:
    """The estimate from an array with a number and, after it, the same over each resample."""
    checks.whole("number of means", len(resampled), 1)
    value, *_ = resampled
    again = resampled[1:][np.isfinite(resampled[1:])]
    if not np.isfinite(value) or not len(again):
        return Estimate(np.nan, np.nan, np.nan)
    tail = (1.0 - CONFIDENCE) / 2.0
    lower, upper = np.quantile(again, [tail, 1.0 - tail])
    return Estimate(float(value), float(lower), float(upper))


class Over(Enum):
    """What a score is computed for; the values are names of groups in tables."""

    GROUPS = tuple(GROUPS)
    JOINTS = JOINTS
    STATE = ("state",)


Need = Literal[
    "draws", "truth", "compared", "against", "half", "other_half", "ranks", "log_density"
]
"""Arguments of scores for n states, with the k components of a group in the group's unit.

- `draws` (n, draws, k) and `truth` (n, k).
- `compared` (n, a, k), `against` (n, b, k): the draws and the simulator's ensemble; for the
  simulator itself, the two halves of its ensemble.
- `half` (n, a, k), `other_half` (n, b, k): the two halves of the ensemble.
- `ranks` (n, k): `pit` of the truth among the draws; only for `Over.GROUPS`.
- `log_density` (n) nats, of the truth; only for `Over.STATE`.
"""


class Score(NamedTuple):
    """A number for each state, whose mean over states is reported.

    Attributes:
        over: what it is computed for.
        needs: the function's arguments. If a prediction lacks one, its score is NaN.
        function: gives (n) for n states.
    """

    over: Over
    needs: tuple[Need, ...]
    function: Callable[..., np.ndarray]


class Means(NamedTuple):
    """Means of one score over the same states; each array has the mean, then those of resamples.

    Attributes:
        own: for the prediction.
        simulator: for the simulator's own ensemble.
        persistence: for persistence.
    """

    own: Float[np.ndarray, " resamples"]
    simulator: Float[np.ndarray, " resamples"]
    persistence: Float[np.ndarray, " resamples"]


class Ranking(NamedTuple):
    """`horizons.md` shows a metric in a table of all models, the smallest number first.

    Attributes:
        title: of the table, before group and unit.
        number: format of the numbers.
    """

    title: str
    number: str


class ByContact(NamedTuple):
    """`horizons.md` shows a metric of the flow by group and contact; a title has one table.

    Attributes:
        title: of the table.
        part: title of this metric's numbers.
        number: format of the numbers.
    """

    title: str
    part: str
    number: str


@final
@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number in tables that is computed from the means of a score.

    Attributes:
        name: in tables.
        unit: None for the group's unit.
        meaning: for readers of the tables.
        score: the score whose means it is computed from.
        derived: computes it from the means.
        columns: fields of `Estimate` with a column in `horizons.csv` (`distances.csv` where the
            score is of `Over.JOINTS`): `name`, `name_lower`, `name_upper`.
        row: whether `intervals.csv` has it.
        shown: how `horizons.md` shows the column `name` of `horizons.csv`; None: not at all.
    """

    name: str
    unit: str | None
    meaning: str
    score: Score
    derived: Callable[[Means], np.ndarray] = lambda means: means.own
    columns: tuple[str, ...] = ("value",)
    row: bool = True
    shown: Ranking | ByContact | None = None

    def __post_init__(self) -> None:
        over = self.score.over
        if self.unit is None and over is not Over.GROUPS:
            raise ValueError(f"{self.name}: only a score of groups can have the group's unit")
        if self.shown and (over is Over.JOINTS or "value" not in self.columns):
            raise ValueError(f"{self.name}: what is shown needs a column in horizons.csv")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups in whose rows tables show it; a score of the whole state is in all rows."""
        return JOINTS if self.score.over is Over.JOINTS else tuple(GROUPS)

    def of(self, group: str) -> str:
        """The components that the score in a group's row is computed for."""
        return group if group in self.score.over.value else "state"


def ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """one / other; NaN where `other` is not positive, as fair scores near zero may be.

    Without noise the simulator's own score is 0, up to rounding.
    """
    positive = other > ROUNDING
    return np.where(positive, one / np.where(positive, other, 1.0), np.nan)


def _coverage(share: float) -> Metric:
    return Metric(
        name=f"coverage_{100 * share:.0f}",
        unit="dimensionless",
        meaning=(
            f"share of truths within the central {100 * share:.0f} % of the draws; {share:g} if "
            "calibrated; more where a block rests and the law has no atom there"
        ),
        score=Score(Over.GROUPS, ("ranks",), lambda ranks: covered(ranks, share).mean(axis=-1)),
        shown=ByContact("truths within the central", f"{100 * share:.0f} %", ".0%"),
    )


CRPS = Score(Over.GROUPS, ("draws", "truth"), crps)
METRICS = (
    Metric(
        name="crps",
        unit=None,
        meaning="continuous ranked probability score, mean over components; smaller is better",
        score=CRPS,
        columns=Estimate._fields,
        shown=Ranking("CRPS", ".3g"),
    ),
    Metric(
        name="crps_simulator",
        unit=None,
        meaning="the simulator's own `crps`, which no prediction beats in the long run",
        score=CRPS,
        derived=lambda means: means.simulator,
        row=False,
    ),
    Metric(
        name="crps_ratio",
        unit="dimensionless",
        meaning="`crps` / `crps_simulator`",
        score=CRPS,
        derived=lambda means: ratio(means.own, means.simulator),
    ),
    Metric(
        name="skill",
        unit="dimensionless",
        meaning="1 - `crps` / that of persistence: 1 is perfect, 0 no better than persistence",
        score=CRPS,
        derived=lambda means: 1.0 - ratio(means.own, means.persistence),
    ),
    *map(_coverage, INTERVALS),
    Metric(
        name="bias",
        unit=None,
        meaning=(
            "root mean square difference of the law's mean from the ensemble's; for the "
            "simulator, between the two halves of its ensemble"
        ),
        score=Score(Over.GROUPS, ("compared", "against"), squared_bias),
        derived=lambda means: np.sqrt(np.maximum(means.own, 0.0)),
        columns=(),
    ),
    Metric(
        name="nll",
        unit="nats",
        meaning=(
            "negative log-likelihood of the whole state, agent and block together, so the same in "
            "all groups' rows; densities are per px, px/s and rad. Persistence is a Gaussian "
            "around the present state with the train split's root mean square change. Where a "
            "flow's block rests exactly, the density is of the agent alone, times the probability "
            "of rest: not to be compared with that of a law without such an atom, nor with the "
            "numbers of training and validation, which blur a block that moves "
            "(training.block_blur)"
        ),
        score=Score(Over.STATE, ("log_density",), np.negative),
        shown=Ranking("negative log-likelihood", ".2f"),
    ),
    Metric(
        name="energy_score",
        unit="dimensionless",
        meaning=(
            "E|X - y| - E|X - X'| / 2, of draws X and the truth y; coordinates, here and below, in "
            "units of the train split's root mean square change over the horizon"
        ),
        score=Score(Over.JOINTS, ("draws", "truth"), energy_score),
        columns=Estimate._fields,
        row=False,
    ),
    Metric(
        name="energy_distance",
        unit="dimensionless",
        meaning=(
            "2 E|X - Y| - E|X - X'| - E|Y - Y'|, of draws X and the ensemble Y: 0 on average for "
            "equal laws; for the simulator, between the two halves of its ensemble"
        ),
        score=Score(Over.JOINTS, ("compared", "against"), energy_distance),
        columns=Estimate._fields,
        row=False,
    ),
    Metric(
        name="split_half",
        unit="dimensionless",
        meaning="energy distance between the two halves of the ensemble, which is noise alone",
        score=Score(Over.JOINTS, ("half", "other_half"), energy_distance),
        columns=Estimate._fields,
        row=False,
    ),
)
"""In the order of the tables."""


def _in_bin(number: int, ranks: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    return (np.floor(ranks * BINS).astype(int) == number).mean(axis=-1)


HISTOGRAM = tuple(
    Score(Over.GROUPS, ("ranks",), partial(_in_bin, number)) for number in range(BINS)
)
"""The shares of truths in the bins of the PIT histogram."""


def all_scores() -> tuple[Score, ...]:
    """All scores that are averaged over states, each once."""
    return tuple(dict.fromkeys((*(metric.score for metric in METRICS), *HISTOGRAM)))
