"""How long a user waits for a model: its first draw, and further ones.

    python -m benchmarks.first_use [--model results/model.eqx] [--rounds 3]

Each round runs in a new process, with no compiled code from before. Without a model, an
untrained one of the default size is used: it does the same work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

FURTHER = 200
"""Further calls; the table has their median."""


def measure(path: str) -> dict[str, float]:
    """Seconds that each part takes in this process."""
    found = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        found[name] = time.perf_counter() - started
        return result

    def load() -> Any:
        from nsf_pipeline import load_model

        return load_model(path)

    timed("import nsf_pipeline", lambda: __import__("nsf_pipeline"))
    model = timed("load_model", load)
    import jax
    import numpy as np

    random = np.random.default_rng(0)
    key = jax.random.key(0)
    from nsf_pipeline.dmp import DMPParams

    start, goal, weights = (
        np.full(2, 150.0),
        np.full(2, 350.0),
        np.zeros((2, model.encoder.dmp.n_basis)),
    )
    policy = DMPParams(2.0, start, goal, weights, 50.0, 14.1, action_noise_std=8.0)
    condition = policy.as_vector()
    places = {"agent_x": 200.0, "agent_y": 260.0, "block_x": 260.0, "block_y": 230.0}

    def call(name: str) -> Any:
        """One call, with other numbers each time."""
        state = np.array([places.get(each, 0.0) for each in model.state_names])
        state += random.normal(size=state.shape)
        start = random.uniform(0.0, 1.0)
        end = start + random.uniform(0.1, 1.0)
        if name == "sample":
            return model.sample(key, state, start, end, condition, num_samples=64)
        if name == "log_prob":
            return model.log_prob(state + 1.0, state, start, end, condition)
        return model.rollout(key, state, np.linspace(start, end, 11), condition)

    def wait_for(name: str) -> None:
        jax.block_until_ready(call(name))

    for name in ("sample", "log_prob", "rollout"):
        timed(f"{name}, first", partial(wait_for, name))
        times = []
        for _ in range(FURTHER):
            started = time.perf_counter()
            wait_for(name)
            times.append(time.perf_counter() - started)
        found[f"{name}, further"] = statistics.median(times)
        found[f"{name}, slowest of {FURTHER} further"] = max(times)
    return found


def untrained(path: Path) -> None:
    """Write an untrained model of the default settings."""
    import jax

    from nsf_pipeline.config import Config
    from nsf_pipeline.model import Normaliser, build_model, save_model

    config = Config()
    scale = (1.0, 1.0, 7.5, 7.5, 5.0, 5.0, 0.1)
    normaliser = Normaliser(((40.0, 40.0), (470.0, 470.0)), scale)
    model = build_model(config.model, config.dmp, normaliser, key=jax.random.key(0))
    save_model(path, model, {})


def main() -> None:
    """Print a table: medians over rounds, least and most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", action="store_true", help="measure in this process; used inside")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(str(options.model))))
        return
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    if options.model and not options.model.is_file():
        parser.error(f"--model: {options.model} is no file")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            model = Path(folder) / "model.eqx"
            untrained(model)
        # Nothing that was compiled before is used again.
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        command = [sys.executable, "-m", "benchmarks.first_use", "--once", "--model", str(model)]
        rounds = [
            json.loads(subprocess.run(command, check=True, stdout=-1, env=environment).stdout)
            for _ in range(options.rounds)
        ]
    print("| | median | least | most |\n| --- | ---: | ---: | ---: |")
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        cells = (statistics.median(values), min(values), max(values))
        print(f"| {name} | " + " | ".join(_duration(value) for value in cells) + " |")


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.2f} ms"


if __name__ == "__main__":
    main()
