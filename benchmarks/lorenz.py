"""The stochastic Lorenz attractor, beside the results of the NSF paper (arXiv:2510.25769).

    python -m benchmarks.lorenz [--seeds N] [--steps N]

The law (Li et al. 2020): dX = 10 (Y - X) dt + a dW1, dY = (X (28 - Z) - Y) dt + a dW2,
dZ = (X Y - 8/3 Z) dt + a dW3, a = 0.15, X(0) ~ N(0, I), t in [0, 1]. A flow is trained on 1024
standardised trajectories observed every 0.025, on pairs of times with all gaps up to 1 equally
likely. Then states at t are drawn in one step from fresh X(0), and as many from the law itself, to
estimate the divergence KL(law || flow) of the marginals. Prints a Markdown table, with means and
standard deviations over trainings and fresh draws.
"""

import argparse
import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.spatial import cKDTree
from scipy.stats import gaussian_kde

from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.training import each_row, fit

DIFFUSION = 0.15
GRID = 0.025
TIMES = (0.25, 0.5, 0.75, 1.0)
TRAJECTORIES = 1024
SAMPLES = 10_000
"""Draws per marginal, of the law and of the flow."""
SETS = 5
"""Fresh draws that each training is measured on."""
PAPER = {
    "latent SDE (paper)": ("2.1 ± 0.9", "1.8 ± 0.1", "0.9 ± 0.3", "1.5 ± 0.5", "3,760"),
    "SDE matching (paper)": ("4.3 ± 0.7", "5.3 ± 1.0", "3.4 ± 0.8", "3.8 ± 1.0", "737,354"),
    "NSF, one step (paper)": ("0.8 ± 0.7", "1.3 ± 0.1", "0.6 ± 0.3", "0.2 ± 0.6", "53"),
}
Readings = dict[tuple[str, float], list[float]]
"""Divergences by estimator and time."""


@functools.partial(jax.jit, static_argnames=("count", "substeps"))
def simulate(key: PRNGKeyArray, count: int, substeps: int = 50) -> Float[Array, "count 41 3"]:
    """Trajectories on the grid, by Heun's method, which is of order 2 in the drift."""
    start_key, key = jax.random.split(key)
    dt = GRID / substeps

    def drift(state: Array) -> Array:
        x, y, z = state.T
        return jnp.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z], axis=1)

    def substep(state: Array, key: PRNGKeyArray) -> tuple[Array, None]:
        noise = DIFFUSION * jnp.sqrt(dt) * jax.random.normal(key, state.shape)
        slope = drift(state)
        return state + 0.5 * dt * (slope + drift(state + dt * slope + noise)) + noise, None

    def step(state: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        state = jax.lax.scan(substep, state, jax.random.split(key, substeps))[0]
        return state, state

    start = jax.random.normal(start_key, (count, 3))
    _, states = jax.lax.scan(step, start, jax.random.split(key, round(1.0 / GRID)))
    return jnp.concatenate([start[:, None], jnp.moveaxis(states, 0, 1)], axis=1)


class Pairs(eqx.Module):
    """Pairs of states of the same trajectory: all gaps equally likely, then all starts."""

    states: Float[Array, "n time 3"]

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw pairs."""
        row_key, gap_key, start_key = jax.random.split(key, 3)
        last = self.states.shape[1] - 1
        row = jax.random.randint(row_key, (batch_size,), 0, len(self.states))
        gap = jax.random.randint(gap_key, (batch_size,), 1, last + 1)
        start = jax.random.randint(start_key, (batch_size,), 0, last + 1 - gap)
        ends = self.states[row, start], self.states[row, start + gap]
        return TransitionBatch(*ends, GRID * start, GRID * (start + gap), None)


def train(
    states: Float[Array, "n time 3"],
    held_out: Float[Array, "n time 3"],
    arguments: argparse.Namespace,
    seed: int,
) -> ConditionalNeuralStochasticFlow:
    """A flow trained on standardised trajectories."""
    flow_key, bridge_key, key = jax.random.split(jax.random.key(seed), 3)
    options = {"coupling": arguments.coupling, "num_bins": 4}
    flow = ConditionalNeuralStochasticFlow(
        3, hidden_size=arguments.hidden, num_flow_layers=arguments.layers, **options, key=flow_key
    )
    bridge = ConditionalAuxiliaryFlow(
        3, hidden_size=arguments.hidden, num_flow_layers=2, **options, key=bridge_key
    )
    config = TrainingConfig(
        steps=arguments.steps,
        batch_size=arguments.batch,
        learning_rate=arguments.rate,
        final_learning_rate=0.0,
        one_to_two_weight=arguments.weight,
        two_to_one_weight=arguments.weight,
        validate_every=2000,
    )
    shown = "nll", "validation_nll", "one_to_two", "two_to_one"

    def report(row: dict[str, int | float]) -> None:
        terms = ", ".join(f"{name} {row[name]:.3f}" for name in shown)
        print(f"step {row['step']}: {terms}, {row['seconds']:.0f} s", file=sys.stderr)

    return fit(
        flow,
        bridge,
        Pairs(states),
        config,
        key=key,
        validation=Pairs(held_out),
        callbacks=[each_row(report)],
    )[0]


def neighbour_divergence(p: np.ndarray, q: np.ndarray, k: int = 5) -> float:
    """KL(p || q) by distances to k-th neighbours (Wang, Kulkarni and Verdu 2009)."""
    within = cKDTree(p).query(p, k + 1)[0][:, -1]
    across = cKDTree(q).query(p, k)[0][:, -1]
    return float(p.shape[1] * np.mean(np.log(across / within)) + np.log(len(q) / (len(p) - 1)))


def kernel_divergence(p: np.ndarray, q: np.ndarray, trimmed: float = 0.0) -> float:
    """KL(p || q) by Gaussian kernel densities with Scott's bandwidth, each on half of its draws.

    The mean is over the other half of p, without the `trimmed` share of most extreme ratios.
    """
    half = len(p) // 2
    truth, model = gaussian_kde(p[:half].T), gaussian_kde(q[:half].T)
    ratios = np.sort(truth.logpdf(p[half:].T) - model.logpdf(p[half:].T))
    cut = round(0.5 * trimmed * len(ratios))
    return float(np.mean(ratios[cut : len(ratios) - cut]))


DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "5 neighbours": neighbour_divergence,
    "kernel densities": kernel_divergence,
    "kernel densities, less the outermost 1 %": functools.partial(kernel_divergence, trimmed=0.01),
}


def kiloflops(flow: ConditionalNeuralStochasticFlow) -> float:
    """Multiplications and additions of one draw, in thousands, as XLA counts them."""
    draw = jax.jit(lambda x, t, key: flow(x, 0.0, t).sample(key))
    compiled = draw.lower(jnp.zeros(3), jnp.ones(()), jax.random.key(0)).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None
    return (analysis["flops"] + analysis.get("transcendentals", 0.0)) / 1000.0


def measure(
    flow: ConditionalNeuralStochasticFlow,
    standardised: Callable[[Array], np.ndarray],
    key: PRNGKeyArray,
    found: Readings,
    floor: Readings,
) -> None:
    """Add the divergences of the law from the flow, and from itself, on fresh draws of both."""
    *keys, key = jax.random.split(key, 4)
    truth, again, given = (standardised(simulate(one, SAMPLES)) for one in keys)
    draw = eqx.filter_jit(
        jax.vmap(lambda x, t, key: flow(x, 0.0, t).sample(key), in_axes=(0, None, 0))
    )
    for t in TIMES:
        at = round(t / GRID)
        drawn = draw(given[:, 0], jnp.asarray(t), jax.random.split(key, SAMPLES))
        for name, divergence in DIVERGENCES.items():
            p = np.asarray(truth[:, at], np.float64)
            found[name, t].append(divergence(p, np.asarray(drawn, np.float64)))
            floor[name, t].append(divergence(p, np.asarray(again[:, at], np.float64)))


def print_table(found: Readings, floor: Readings, cost: float) -> None:
    """Print the paper's rows and ours."""
    print("| | " + " | ".join(f"KL, t = {t}" for t in TIMES) + " | kFLOP |")
    print("| --- " * (len(TIMES) + 2) + "|")
    for name, cells in PAPER.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    for name in DIVERGENCES:
        for row, values in ("here", found), ("the law against itself", floor):
            means = [
                f"{np.mean(values[name, t]):.2f} ± {np.std(values[name, t]):.2f}" for t in TIMES
            ]
            means.append(f"{cost:.0f}" if values is found else "")
            print(f"| {row}: {name} | " + " | ".join(means) + " |")


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1, help="trainings")
    parser.add_argument("--steps", type=int, default=30_000, help="optimisation steps of each")
    parser.add_argument("--batch", type=int, default=512, help="transitions per step")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak rate of Adam")
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--weight", type=float, default=0.01, help="of both consistency losses")
    parser.add_argument("--coupling", choices=("affine", "spline"), default="spline")
    arguments = parser.parse_args()
    started = time.monotonic()
    states = simulate(jax.random.key(1000), TRAJECTORIES)
    held_out = simulate(jax.random.key(1001), TRAJECTORIES)
    mean, std = states.mean(axis=(0, 1)), states.std(axis=(0, 1))
    found: Readings = defaultdict(list)
    floor: Readings = defaultdict(list)
    for seed in range(arguments.seeds):
        flow = train((states - mean) / std, (held_out - mean) / std, arguments, seed)
        for fresh in range(SETS):
            key = jax.random.fold_in(jax.random.key(2000 + fresh), seed)
            measure(flow, lambda states: (np.asarray(states) - mean) / std, key, found, floor)
    print_table(found, floor, kiloflops(flow))
    print(f"\n{arguments.seeds} trainings, {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
