"""Training on data held in memory and streamed from the disk, side by side: speed and memory.

    python benchmarks/streaming.py --copies 400 --rounds 3
    python benchmarks/streaming.py --copies 100 --files 100 --steps 0

Simulates 1000 trajectories and repeats them in a larger data set in a temporary folder (4.5 MB a
copy). All ways take turns, each in a separate process, with the default model. With `--files`, one
of them streams the same data from several files behind an index.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {"num_trajectories": 1000, "shard_size": 500}
DIVIDED = "streamed from several files"
MODES = {"in memory": 1 << 20, "streamed": 0, DIVIDED: 0}
"""By name, the data memory in MiB."""
SKIPPED = 3
"""Blocks of steps at the start that are not timed: compilation, and the first small blocks."""


def main() -> None:
    """Make the data, run both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=400, help="of 1000 trajectories")
    parser.add_argument("--files", type=int, default=0, help="divide the data into so many, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="0: only draw batches")
    parser.add_argument("--folder", help="where to make the data (the temporary folder)")
    parser.add_argument("--run", nargs=2, metavar=("DATASET", "MIB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(Path(options.run[0]), int(options.run[1]), options.steps)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        dataset = make(Path(folder), options.copies)
        index = divided(dataset, options.files) if options.files else dataset
        modes = {name: MODES[name] for name in MODES if options.files or name != DIVIDED}
        found: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
        for _ in range(options.rounds):
            for mode, memory in modes.items():
                path = index if mode == DIVIDED else dataset
                command = [__file__, "--run", path, memory, "--steps", options.steps]
                done = subprocess.run(
                    [sys.executable, *map(str, command)],
                    env={**os.environ, "JAX_COMPILATION_CACHE_DIR": folder},
                    check=True,
                    stdout=subprocess.PIPE,
                )
                found[mode].append(json.loads(done.stdout.splitlines()[-1]))
        size = dataset.stat().st_size / 2**20
    print(f"data set of {size:.0f} MiB, medians of {options.rounds} rounds\n")
    print("| data | steps/s | batches/s, drawn alone | data in memory, MiB | memory at most, MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for mode, rounds in found.items():
        values = (np.median([each[name] for each in rounds]) for name in rounds[0])
        print(f"| {mode} | " + " | ".join(f"{value:.4g}" for value in values) + " |")


def make(folder: Path, copies: int) -> Path:
    """A data set that repeats the trajectories of a small one."""
    import h5py

    from nsf_pipeline.data import store

    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    verb = ["generate-data", "--config", folder / "settings.json", "--output", folder]
    subprocess.run([sys.executable, "-m", "nsf_pipeline", *map(str, verb)], check=True)
    path = folder / "large.h5"
    with h5py.File(folder / "dataset.h5") as small:
        count, times, _ = small["observations"].shape
        size = small["condition"].shape[1]
        sizes = {"n": copies * count, "T": times - 1, "T+1": times, "C": size}
        attributes = {name: value for name, value in small.attrs.items() if "schema" not in name}
        settings = json.loads(attributes["config"]) | {"num_trajectories": copies * count}
        attributes["config"] = json.dumps(settings)
        with store.create(path, "dataset", sizes, attributes) as large:
            for name, values in small.items():
                once = values[...]
                for first in range(0, copies * count, count):
                    large[name][first : first + count] = once
            large["trajectory"][...] = range(copies * count)
    return path


def divided(dataset: Path, files: int) -> Path:
    """The index of the same data in several files."""
    from nsf_pipeline.data import store
    from nsf_pipeline.paths import shard_in

    index, parts = dataset.with_name("divided.h5"), []
    with store.reading(dataset, "dataset") as file:
        attributes = {name: value for name, value in file.attrs.items() if "schema" not in name}
        stops = np.linspace(0, len(file["length"]), files + 1).astype(int).tolist()
        for number, (first, stop) in enumerate(itertools.pairwise(stops)):
            part = shard_in(store.folder_of(index), number)
            arrays = {name: file[name][first:stop] for name in store.DATASET}
            store.write(part, "dataset", arrays, attributes | {"first": first, "stop": stop})
            parts.append(store.part_file(part))
    store.write_index(index, parts)
    return index


def measure(dataset: Path, memory: int, steps: int) -> dict[str, float]:
    """Speed and memory of one way."""
    import jax

    from nsf_pipeline.config import Config, RuntimeConfig, TrainingConfig
    from nsf_pipeline.data import store
    from nsf_pipeline.data.sources import sources

    config = Config(
        **SETTINGS,
        training=TrainingConfig(steps=steps or 600, validate_every=steps or 600, warmup_steps=1),
        runtime=RuntimeConfig(data_memory=memory),
    )
    key = jax.random.key(0)
    jax.block_until_ready(jax.random.split(key))
    rest = resident()
    with store.reading(dataset, "dataset") as file:
        source, _ = sources(config, dataset, file)
    held = resident() - rest
    most = [0.0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    keys = jax.random.split(key, 128)
    size = config.training.batch_size
    jax.block_until_ready(source.batches(keys, size))  # compiles, and warms the disk's cache
    began = time.perf_counter()
    for _ in range(4):
        jax.block_until_ready(source.batches(keys, size))
    batches = 4 * len(keys) / (time.perf_counter() - began)
    source.sample(key, 65_536)
    speed = speed_of_training(config, source, key) if steps else float("nan")
    ended.set()
    watcher.join()
    return {"steps": speed, "batches": batches, "held": held, "most": most[0]}


def speed_of_training(config: Any, source: Any, key: Any) -> float:
    """Steps per second of the default model."""
    from nsf_pipeline.model import build_model, fit_normaliser
    from nsf_pipeline.training import Callback, fit

    normaliser = fit_normaliser(config.model, config.dmp, source.sample(key, 65_536))
    model = build_model(config.model, config.dmp, normaliser, key=key)
    times: list[tuple[float, int]] = []
    timed = Callback(on_block=lambda state: times.append((time.perf_counter(), state.step)))
    fit(
        model.transition,
        model.bridge,
        source,
        config.training,
        key=key,
        callbacks=[timed],
    )
    (start, first), (stop, last) = times[SKIPPED], times[-1]
    return (last - first) / (stop - start)


def resident() -> float:
    """MiB of this process in memory, pages of mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
