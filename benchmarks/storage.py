"""How to store trajectories: chunks and compression, by size and by time to write and read.

    python benchmarks/storage.py [--trajectories 2000] [--rounds 5]

Writes the arrays of one rollout shard, as they are and as `dataset.h5` holds them (scaled,
float64), in each way by turns. Reads all arrays, of all trajectories and of 512 random ones, with
the file in the disk's cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate

COMPRESSIONS = {
    "none": {},
    "lzf, shuffled": {"compression": "lzf", "shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "gzip 1, shuffled": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "gzip 4, shuffled": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}
CHUNKS = (16, 64, 256, 1000)


def scaled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays as `dataset.h5` holds them."""
    return {
        name: store.scale(values, values.min(axis=tuple(range(values.ndim - 1))), values.max())
        if store.ROLLOUTS[name].scaled
        else values
        for name, values in arrays.items()
    }


def write(path: Path, arrays: dict[str, np.ndarray], chunk: int, options: dict) -> None:
    """Write one file."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name, values in arrays.items():
            chunks = (min(chunk, len(values)), *values.shape[1:]) if values.ndim > 1 else None
            file.create_dataset(name, data=values, chunks=chunks, **(options if chunks else {}))


def read(path: Path, rows: slice | np.ndarray) -> None:
    """Read all arrays, of all trajectories or of some."""
    with h5py.File(path) as file:
        for values in file.values():
            values[rows]


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config, count = Config(), options.trajectories
    found = simulate(config, sample_policies(config, 0, count))
    rollouts = {name: found[name].astype(field.dtype) for name, field in store.ROLLOUTS.items()}
    some = np.sort(np.random.default_rng(0).choice(count, min(512, count // 2), replace=False))
    kinds = {"shard": rollouts, "data set": scaled(rollouts)}
    ways = [(kind, chunk, name) for kind in kinds for name in COMPRESSIONS for chunk in CHUNKS]
    taken: dict[tuple, list[tuple[float, ...]]] = {way: [] for way in ways}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        for _ in range(options.rounds):
            for way in ways:
                kind, chunk, name = way
                writing = seconds(partial(write, path, kinds[kind], chunk, COMPRESSIONS[name]))
                reading = seconds(partial(read, path, slice(None)))
                taken[way].append((writing, reading, seconds(partial(read, path, some))))
                sizes[way] = path.stat().st_size
    print("Per trajectory:\n")
    print("| kind | compression | a chunk | bytes | write, us | read, us | some rows, us |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for way, times in taken.items():
        kind, chunk, name = way
        writing, reading, sampling = map(statistics.median, zip(*times, strict=True))
        per_one = f"{sizes[way] / count:,.0f} | {writing / count * 1e6:.0f}"
        per_one += f" | {reading / count * 1e6:.0f} | {sampling / len(some) * 1e6:.0f}"
        print(f"| {kind} | {name} | {chunk} | {per_one} |")


if __name__ == "__main__":
    main()
