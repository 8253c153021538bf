"""Training steps per second: a plain function, a jit per step, and `fit`; beside matrix products.

    python -m benchmarks.training [--rounds 5]

The default model, settings and sizes, on freshly simulated trajectories. The plain function runs
its operations one by one, except that JAX always compiles loops over time (`jax.lax.scan`). The jit
per step is what is usually written first: it draws a batch and reads the loss on the host at every
step. Only `fit` shares the encoding among the losses. All take turns in one run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.flow import SQUARE, data, matrix_product, seconds, work_of_products
from nsf_pipeline.config import Config
from nsf_pipeline.model import build_model, fit_normaliser
from nsf_pipeline.training import each_row, fit
from nsf_pipeline.training.clipping import shortened
from nsf_pipeline.training.losses import batch_consistency, batch_encoding
from nsf_pipeline.training.step import make_optimiser


def step_function(model: Any, settings: Any) -> Callable[..., Any]:
    """One optimisation step as a plain function of parameters, optimiser's state, batch and key."""
    optimiser = make_optimiser(settings)
    _, fixed = eqx.partition((model.transition, model.bridge), eqx.is_inexact_array)
    weights = settings.one_to_two_weight, settings.two_to_one_weight
    count = round(settings.consistency_fraction * settings.batch_size)

    def likelihood(trainable: Any, batch: Any) -> jax.Array:
        flow, _ = eqx.combine(trainable, fixed)

        def one(x_init: Any, x_final: Any, t_init: Any, t_final: Any, condition: Any) -> jax.Array:
            return -flow(x_init, t_init, t_final, condition).log_prob(x_final)

        return jnp.mean(jax.vmap(one)(*batch))

    def consistency(trainable: Any, batch: Any, key: Any) -> jax.Array:
        flow, bridge = eqx.combine(trainable, fixed)
        pair = batch_consistency(flow, bridge, batch, batch_encoding(flow, batch), key=key)
        return weights[0] * pair[0] + weights[1] * pair[1]

    def step(trainable: Any, state: Any, batch: Any, key: Any) -> tuple[Any, Any, jax.Array]:
        nll, gradients = jax.value_and_grad(likelihood)(trainable, batch)
        norm = optax.tree.norm(gradients)
        part = jax.tree.map(lambda values: values[:count], batch)
        total, more = jax.value_and_grad(consistency)(trainable, part, key)
        more = shortened(more, optax.tree.norm(more), sum(weights) * norm)
        gradients = jax.tree.map(jnp.add, gradients, more)
        updates, state = optimiser.update(gradients, state, trainable)
        return optax.apply_updates(trainable, updates), state, nll + total

    return step


def own_products(model: Any, settings: Any) -> Callable[[], Any]:
    """A step's matrix products alone, in their own sizes: forwards and twice backwards."""
    part = round(settings.consistency_fraction * settings.batch_size)
    rows = [(model.transition, settings.batch_size), (model.transition, 4 * part)]
    rows.append((model.bridge, 2 * part))
    shapes = [
        (count, *leaf.shape)
        for network, count in rows
        for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
        if leaf.ndim == 2
    ]
    inputs = [
        (jnp.ones((count, size)), jnp.ones((out, size)), jnp.ones((count, out)))
        for count, out, size in shapes
    ]
    products = jax.jit(lambda inputs: [(x @ w.T, g @ w, g.T @ x) for x, w, g in inputs])
    jax.block_until_ready(products(inputs))
    return lambda: products(inputs)


def main() -> None:
    """Print steps per second of each way, their ratios, and the share of the products' rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = Config()
    transitions, _ = data(config, 2000)
    key = jax.random.key(0)
    normaliser = fit_normaliser(config.model, config.dmp, transitions.sample(key, 8192))
    model = build_model(config.model, config.dmp, normaliser, key=jax.random.key(1))
    steps = 100
    settings = config.training.model_copy(
        update={"steps": (options.rounds + 1) * steps, "validate_every": steps, "warmup_steps": 1}
    )
    step = step_function(model, settings)
    jitted = jax.jit(step)
    sample = eqx.filter_jit(lambda key: transitions.sample(key, settings.batch_size))
    trainable, _ = eqx.partition((model.transition, model.bridge), eqx.is_inexact_array)
    state = make_optimiser(settings).init(trainable)
    products = own_products(model, settings)
    taken: dict[str, list[float]] = {"plain": [], "jit": [], "fit": [], "products": []}

    def naive(count: int) -> None:
        at = trainable, state
        for index in range(count):
            batch = jax.device_get(sample(jax.random.fold_in(key, index)))
            *at, loss = jitted(*at, batch, jax.random.fold_in(key, index))
            if not np.isfinite(float(loss)):
                raise RuntimeError("the loss is not finite")

    naive(2)
    batch = sample(key)
    jax.block_until_ready(step(trainable, state, batch, key))  # the scans' own compilation
    ended = [time.perf_counter()]

    def others(row: dict[str, float]) -> None:
        """The other ways' turn, at each of `fit`'s rows."""
        if row["step"] > steps:  # the first row holds the compilation
            taken["fit"].append((time.perf_counter() - ended[0]) / steps)
            taken["jit"].append(seconds(lambda: naive(20)) / 20)
            taken["plain"].append(seconds(lambda: step(trainable, state, batch, key)))
            taken["products"].append(min(seconds(products) for _ in range(10)))
        ended[0] = time.perf_counter()

    fit(
        model.transition,
        model.bridge,
        transitions,
        settings,
        key=key,
        callbacks=[each_row(others)],
    )
    rate = matrix_product(10 * options.rounds)
    median = {name: statistics.median(times) for name, times in taken.items()}
    print(f"Training steps of {settings.batch_size}:\n")
    print("| | steps/s | times the plain function |\n| --- | ---: | ---: |")
    for name, label in (
        ("plain", "plain function"),
        ("jit", "one jit per step"),
        ("fit", "compiled blocks (`fit`)"),
    ):
        print(f"| {label} | {1 / median[name]:.3g} | {median['plain'] / median[name]:.3g} |")
    work = work_of_products(model, settings)
    used, own = work / median["fit"], work / median["products"]
    print(
        f"\nNetworks' products: {used / 1e9:.1f} GFLOP/s in training; {own / 1e9:.1f} alone, in "
        f"their own sizes (ratio {used / own:.2f}); {rate / 1e9:.1f} in a {SQUARE} x {SQUARE} "
        f"product (ratio {used / rate:.2f})"
    )


if __name__ == "__main__":
    main()
