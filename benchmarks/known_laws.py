"""How closely trained flows match known transition laws.

    python -m benchmarks.known_laws [--laws NAME ...] [--coupling affine|spline] [--seed N]

Each law of `benchmarks.laws` is learnt by `fit` from transitions over the gaps 0.1, 0.2, 0.4, 0.7
and 1. Prints two tables as Markdown: KL(truth || flow) in nats per dimension at these gaps and
between them, averaged over starts drawn as in training; and two-sample tests, from one start, of
one step over the gap 1 against two and ten steps.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from benchmarks.laws import GAPS, LAWS, TRAINED_GAPS, Law
from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.flow.bijectors import CouplingKind
from nsf_pipeline.flow.losses import Transition
from nsf_pipeline.training import fit

DRAWS = 100_000
"""Draws of the truth per gap."""
SAMPLES = 10_000
"""Draws on each side of a two-sample test."""


@dataclass(frozen=True)
class Settings:
    """How a law is learnt."""

    coupling: CouplingKind
    num_flow_layers: int
    target: float
    steps: int = 6000
    hidden_size: int = 32
    batch_size: int = 1024
    consistency: float = 0.3
    """Weight of both consistency losses."""


SETTINGS = {
    "Ornstein-Uhlenbeck": Settings("affine", 1, 0.01),
    "Brownian motion with drift": Settings("affine", 1, 0.01),
    "correlated linear, 2-D": Settings("spline", 2, 0.01),
    "Ornstein-Uhlenbeck family": Settings("affine", 1, 0.01),
    "geometric Brownian motion": Settings("spline", 2, 0.02),
    "double well": Settings("spline", 2, 0.02, steps=12_000, hidden_size=64, consistency=1.0),
}


def train(law: Law, settings: Settings, seed: int = 0) -> ConditionalNeuralStochasticFlow:
    """A flow trained on a law."""
    flow_key, bridge_key, key = jax.random.split(jax.random.key(seed), 3)
    options: dict[str, Any] = {
        "hidden_size": settings.hidden_size,
        "num_flow_layers": settings.num_flow_layers,
        "coupling": settings.coupling,
    }
    sizes = law.dim, law.condition_dim
    config = TrainingConfig(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=5e-3,
        final_learning_rate=0.0,
        warmup_steps=min(200, settings.steps // 10),
        one_to_two_weight=settings.consistency,
        two_to_one_weight=settings.consistency,
        consistency_fraction=0.25,
        validate_every=settings.steps,
    )
    flow, _, _ = fit(
        ConditionalNeuralStochasticFlow(*sizes, autonomous=True, **options, key=flow_key),
        ConditionalAuxiliaryFlow(*sizes, autonomous=True, **options, key=bridge_key),
        law,
        config,
        key=key,
    )
    return flow


@eqx.filter_jit
def log_ratios(
    flow: Transition, law: Law, gaps: Float[Array, " n"], key: PRNGKeyArray
) -> Float[Array, " n"]:
    """log p - log q of draws of the truth p, over each gap."""

    def one(start: Array, end: Array, s: Array, t: Array, condition: Array | None) -> Array:
        truth = law.log_prob(end, start, t - s, condition)
        return truth - flow(start, s, t, condition).log_prob(end)

    batch = law.transitions(key, gaps)
    return jax.lax.map(lambda one_row: one(*one_row), tuple(batch), batch_size=2000)


def divergence(
    flow: Transition, law: Law, gap: float, seed: int = 1, draws: int = DRAWS
) -> tuple[float, float]:
    """KL(truth || flow) over a gap, nats per dimension, and its standard error.

    The mean of log p/q over draws of p, with q/p - 1, whose mean is 0, as control variate.
    """
    ratios = log_ratios(flow, law, jnp.full(draws, gap), jax.random.key(seed))
    log_ratio = np.asarray(ratios, np.float64)
    control = np.expm1(-log_ratio)
    covariance = np.cov(log_ratio, control)
    values = log_ratio - covariance[0, 1] / max(covariance[1, 1], 1e-30) * control
    return values.mean() / law.dim, values.std() / np.sqrt(draws) / law.dim


@eqx.filter_jit
def ends(
    flow: ConditionalNeuralStochasticFlow,
    start: Float[Array, " dim"],
    condition: Float[Array, " condition"] | None,
    gap: float,
    steps: int,
    keys: PRNGKeyArray,
) -> Float[Array, "n dim"]:
    """Draws of the state a gap after a start, in `steps` equal steps."""

    def one(key: PRNGKeyArray) -> Array:
        def step(x: Array, key: PRNGKeyArray) -> tuple[Array, None]:
            return flow(x, 0.0, jnp.asarray(gap / steps), condition).sample(key), None

        return jax.lax.scan(step, start, jax.random.split(key, steps))[0]

    return jax.vmap(one)(keys)


def energy_test(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "n dim"],
    permutations: int = 499,
    seed: int = 0,
) -> float:
    """p-value of the hypothesis that two samples of equal size are of one law.

    The statistic is the energy distance (Szekely and Rizzo), n/2 times

        2 E|X - Y| - E|X - X'| - E|Y - Y'| = -s' D s / n^2,

    for the pooled distances D and the signs s = +1, -1 of the samples; permutations permute s.
    """
    pooled = jnp.asarray(np.concatenate([x, y]), jnp.float32)
    random = np.random.default_rng(seed)
    signs = np.repeat(np.array([1.0, -1.0], np.float32), len(x))
    columns = np.stack([signs, *(random.permutation(signs) for _ in range(permutations))], axis=1)
    everything = jnp.asarray(columns)

    @jax.jit
    def rows(part: Array, some: Array) -> Array:
        gaps = jnp.linalg.norm(part[:, None] - pooled[None], axis=-1)
        # The signs cancel the subtracted constant, and the numbers to be summed are smaller.
        return -jnp.sum(some * ((gaps - gaps.mean()) @ everything), axis=0)

    size = 1000
    statistic = np.zeros(permutations + 1)
    for first in range(0, len(pooled), size):
        part = slice(first, first + size)
        statistic += np.asarray(rows(pooled[part], everything[part]), np.float64)
    return float((1 + (statistic[1:] >= statistic[0]).sum()) / (1 + permutations))


def step_tests(flow: ConditionalNeuralStochasticFlow, law: Law, seed: int = 2) -> dict[int, float]:
    """p-values of one step over the gap 1 against two and ten, from one start."""
    start_key, *keys = jax.random.split(jax.random.key(seed), 4)
    start, condition = law.start(start_key)
    samples = {
        steps: np.asarray(ends(flow, start, condition, 1.0, steps, jax.random.split(key, SAMPLES)))
        for steps, key in zip((1, 2, 10), keys, strict=True)
    }
    return {steps: energy_test(samples[1], samples[steps]) for steps in (2, 10)}


def main() -> None:
    """Train on laws and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS), metavar="NAME")
    parser.add_argument("--coupling", choices=("affine", "spline"), help="instead of each law's")
    parser.add_argument("--layers", type=int, help="couplings, instead of each law's number")
    parser.add_argument("--seed", type=int, default=0, help="of the networks and the training")
    arguments = parser.parse_args()
    rows, tests, started = [], [], time.monotonic()
    for name in arguments.laws:
        begun = time.monotonic()
        settings = SETTINGS[name]
        if arguments.coupling:
            settings = replace(settings, coupling=arguments.coupling)
        if arguments.layers is not None:
            settings = replace(settings, num_flow_layers=arguments.layers)
        law = LAWS[name]()
        flow = train(law, settings, arguments.seed)
        found = {gap: divergence(flow, law, gap) for gap in GAPS}
        p_values = step_tests(flow, law)
        seconds = time.monotonic() - begun
        worst = max(value for value, _ in found.values())
        error = max(error for _, error in found.values())
        cells = [f"{found[gap][0]:.5f}" for gap in GAPS]
        couplings = f"{settings.num_flow_layers} {settings.coupling}"
        met = "yes" if worst <= settings.target else "no"
        rows.append([name, couplings, *cells, f"{error:.5f}", f"{settings.target} {met}"])
        tests.append([name, f"{p_values[2]:.3f}", f"{p_values[10]:.3f}", f"{seconds:.0f}"])
        print(f"{name}: at most {worst:.4f}, p {p_values}, {seconds:.0f} s", file=sys.stderr)
    between = [f"{gap}{'' if gap in TRAINED_GAPS else '*'}" for gap in GAPS]
    print(markdown(["law", "couplings", *between, "std. error <=", "target met"], rows))
    print()
    print(markdown(["law", "1 against 2 steps, p", "1 against 10 steps, p", "s"], tests))
    print(f"\nTotal: {time.monotonic() - started:.0f} s.")


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
