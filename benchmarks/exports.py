"""What exports take: bytes and CPU time per trajectory, by format, with and without frames.

    python -m benchmarks.exports --trajectories 200

Makes a data set at default settings in a temporary folder, exports it in each format, and prints a
table. Times are of all that a command does once Python runs, in all its processes.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nsf_pipeline import paths
from nsf_pipeline.config import Config, ExportConfig, FrameSize, TrainingConfig
from nsf_pipeline.data.exports import FORMATS
from nsf_pipeline.stages import export, generate

SIZES: tuple[FrameSize, ...] = (0, 96, 224)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=[*FORMATS])
    options = parser.parse_args()
    count = options.trajectories
    training = TrainingConfig(batch_size=64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = Config(num_trajectories=count, shard_size=count, training=training)
        generate.data(config, folder, options.jobs)
        dataset = paths.below(folder, paths.DATASET)
        header = ["format", *(f"{size} px" if size else "no frames" for size in SIZES)]
        print(f"| {' | '.join(header)} |\n| {' | '.join(['---'] * len(header))} |")
        for name in options.formats:
            cells = measured(dataset, folder / name, name, count, options.jobs)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measured(dataset: Path, folder: Path, name: str, count: int, jobs: int) -> Iterator[str]:
    """For each size of frames, kB per trajectory, and trajectories per second of one core."""
    for size in SIZES:
        output, before = folder / str(size), cpu_seconds()
        export.run(None, dataset, name, ExportConfig(frames=size), output, jobs)
        seconds = cpu_seconds() - before
        written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        yield f"{written / count / 1e3:.1f} kB, {count / seconds:.0f}/s"


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that have ended, s."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
