"""The cost of the flow: operations, draws per second beside the simulator, training's arithmetic.

    python benchmarks/flow.py [--horizon 2.0] [--rounds 5]

The default model, untrained: what it computes does not depend on its weights. Everything takes
turns in one run. Draws from states of their own are made as planners make them, on all cores. XLA
counts the operations of the compiled program, with the body of a loop counted once: the flow's
networks have no loops, but the nominal motion in the features has.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nsf_pipeline.config import Config, TrainingConfig
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.states import join_state
from nsf_pipeline.data.transitions import Trajectories, Transitions
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model import PushTModel, build_model, fit_normaliser
from nsf_pipeline.planning import OnePass
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.training import each_row, fit

SIZES = (1, 16, 256, 4096, 65_536)
OWN = 4096
"""Draws from states of their own; the policies end 1 to 3.6 s later."""
SQUARE = 1024


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call, until its result is ready."""
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


def flops(function: Callable[..., object], *arguments: object) -> float:
    """Floating-point operations of a function's compiled program."""
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]


def data(config: Config, count: int) -> tuple[Transitions, dict[str, np.ndarray]]:
    """Transitions of freshly simulated trajectories, and the trajectories."""
    rollouts = simulate(config, sample_policies(config, 0, count))
    states = join_state(rollouts, STATE)
    trajectories = Trajectories(states, rollouts["length"], rollouts["condition"])
    return Transitions.build(trajectories, config.training.max_gap), rollouts


def matrix_product(rounds: int) -> float:
    """Operations per second of a large float32 matrix product, the best of some rounds."""
    square = jnp.ones((SQUARE, SQUARE))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    return 2.0 * SQUARE**3 / min(seconds(lambda: product(square, square)) for _ in range(rounds))


def draws(model: PushTModel, horizon: float, rollouts: dict[str, np.ndarray], rounds: int) -> None:
    """Draws per second from one state, beside the simulator's."""
    row = int(np.argmax(rollouts["length"]))
    state = jnp.asarray(rollouts["initial_state"][row], jnp.float32)
    condition = jnp.asarray(rollouts["condition"][row], jnp.float32)
    key = jax.random.key(0)

    def sample(size: int) -> Callable[..., jax.Array]:
        return jax.jit(
            lambda key, state, condition: model.sample(
                key, state, 0.0, horizon, condition, num_samples=size
            )
        )

    one, many = (flops(sample(size), key, state, condition) for size in (1, 4096))
    per_draw = (many - one) / 4095
    features = (one - per_draw) / 1e3
    print(f"One draw: {per_draw / 1e3:.1f} kFLOP; a query's features: {features:.1f} kFLOP\n")

    policies = DMPParams.from_vector(rollouts["condition"][:OWN])
    states, world = rollouts["initial_state"][: len(policies.duration)], OnePass(model, 1)

    def own() -> np.ndarray:
        return world.predict(states, policies, key=key)

    own()
    compiled = {size: sample(size) for size in SIZES}
    for function in compiled.values():
        jax.block_until_ready(function(key, state, condition))
    simulator = Simulator()
    noise = np.random.default_rng(0).normal(0.0, 8.0, (256, round(10 * horizon), 2))
    targets = rollouts["targets"][row, : noise.shape[1]] + noise
    initial = rollouts["initial_state"][row]
    taken: dict[int | str, list[float]] = {name: [] for name in (*SIZES, "own", "simulator")}
    for _ in range(rounds):
        for size, function in compiled.items():
            taken[size].append(seconds(functools.partial(function, key, state, condition)) / size)
        taken["own"].append(seconds(own) / len(states))
        taken["simulator"].append(
            seconds(lambda: simulator.ensemble(initial, targets)) / len(targets)
        )
    reference = statistics.median(taken["simulator"])
    print(f"Draws {horizon:g} s ahead of one state:\n")
    print("| | at once | draws/s | times the simulator |\n| --- | ---: | ---: | ---: |")
    labels = {
        "own": ("flow, each from a state of its own", f"{len(states):,}"),
        "simulator": ("simulator, one core", ""),
    }
    for name, times in taken.items():
        median = statistics.median(times)
        label = labels.get(str(name)) or ("flow", f"{name:,}")
        print(f"| {label[0]} | {label[1]} | {1 / median:,.0f} | {reference / median:.2f} |")


def work_of_products(model: PushTModel, settings: TrainingConfig) -> float:
    """Operations of the networks' matrix products in one training step, forwards and backwards."""

    def weights_of(part: eqx.Module | None) -> int:
        leaves = jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array))
        return sum(leaf.size for leaf in leaves if leaf.ndim == 2)

    part = settings.consistency_fraction
    # The consistency losses: one step, a first step, and two second steps; the bridge twice.
    weights = weights_of(model.transition) * (1 + 4 * part) + weights_of(model.bridge) * 2 * part
    return 6.0 * settings.batch_size * weights


def training(
    model: PushTModel, transitions: Transitions, config: Config, rate: float, steps: int
) -> None:
    """Print the rate of training's arithmetic beside that of a large matrix product."""
    settings = config.training.model_copy(
        update={"steps": 4 * steps, "validate_every": steps, "warmup_steps": 1}
    )
    ends: list[float] = []
    fit(
        model.transition,
        model.bridge,
        transitions,
        settings,
        key=jax.random.key(0),
        callbacks=[each_row(lambda row: ends.append(time.perf_counter()))],
    )
    pace = steps / min(np.diff(ends))

    used = pace * work_of_products(model, settings)
    print(
        f"\nTraining: {pace:.1f} steps/s of {settings.batch_size}, {used / 1e9:.1f} GFLOP/s in the "
        f"networks' products; a {SQUARE} x {SQUARE} matrix product: {rate / 1e9:.1f} GFLOP/s; "
        f"ratio {used / rate:.2f}"
    )


def main() -> None:
    """Print operations, draws per second and training's share of the matrix product's rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--horizon", type=float, default=2.0, help="s")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = Config()
    transitions, rollouts = data(config, OWN)
    normaliser = fit_normaliser(
        config.model, config.dmp, transitions.sample(jax.random.key(0), 8192)
    )
    model = build_model(config.model, config.dmp, normaliser, key=jax.random.key(1))
    draws(model, options.horizon, rollouts, options.rounds)
    training(model, transitions, config, matrix_product(10 * options.rounds), steps=100)


if __name__ == "__main__":
    main()
