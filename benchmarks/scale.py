"""What many trajectories take, worked out from what a few take here.

    python -m benchmarks.scale --trajectories 100000000 --cores 256 --shard-sizes 2500 25000 100000
    python -m benchmarks.scale --measured scale.json --cores 64     # another plan, nothing measured

Measures the CPU time, memory and bytes of the jobs from the policies to the data set at default
settings, Snakemake's own for many shards (by dry runs), and how fast training reads from the disk.
The measured numbers are printed and kept in the file `--measured`. Other work on the machine
changes CPU times less than others.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from resource import struct_rusage
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RULES = ("policies", "rollouts", "dataset")
SIZES = (500, 5000)
"""Trajectories of the two shards that a job's start and its time per trajectory are told from."""
SNAKEMAKE = (sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"))


def main() -> None:
    """Measure, unless it was done, and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=100_000_000)
    parser.add_argument("--cores", type=int, default=256)
    parser.add_argument("--shard-sizes", type=int, nargs="+", default=[2500, 25_000, 100_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--measured", type=Path, default=Path("scale.json"))
    options = parser.parse_args()
    if not options.measured.exists():
        options.measured.write_text(json.dumps(measure(options.shards), indent=1))
    measured = json.loads(options.measured.read_text())
    print_measured(measured)
    print_plan(measured, options.trajectories, options.cores, options.shard_sizes)


def measure(shards: Sequence[int]) -> dict[str, Any]:
    """What the plan is made of; CPU times in s, memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = (chain(folder / str(size), size) for size in SIZES)
        found: dict[str, Any] = {rule: parts(small[rule], large[rule]) for rule in RULES}
        found["snakemake"] = []
        for count in shards:
            found["snakemake"].append({"shards": count, **dry_run(folder / "dry", count)})
            print(found["snakemake"][-1], file=sys.stderr, flush=True)
    found["reading"] = reading()
    return found


def chain(folder: Path, size: int) -> dict[str, dict[str, float]]:
    """By rule, what its jobs took for two shards; for a shard or, of the data set, for both."""
    settings = {"num_trajectories": 2 * size, "shard_size": size}
    snakemake(folder, settings, "--cores", "1", "results/dataset.h5")
    results = folder / "results"
    found = {}
    for rule in RULES:
        records = [results / "benchmarks" / "dataset.tsv"]
        made = [results / "dataset.h5"]
        if rule != "dataset":
            records = sorted((results / "benchmarks" / rule).glob("*.tsv"))
            made = sorted((results / rule).glob("*.h5"))
        rows = [next(csv.DictReader(path.open(), delimiter="\t")) for path in records]
        found[rule] = {
            "trajectories": 2 * size / len(rows),
            "seconds": min(float(row["cpu_time"]) for row in rows),
            "memory": max(float(row["max_rss"]) for row in rows),
            "bytes": sum(path.stat().st_size for path in made) / (2 * size),
        }
    return found


def parts(small: dict[str, float], large: dict[str, float]) -> dict[str, float]:
    """A job's start, and what each trajectory adds."""
    more = large["trajectories"] - small["trajectories"]
    each = (large["seconds"] - small["seconds"]) / more
    return {
        "start": small["seconds"] - each * small["trajectories"],
        "each": each,
        "bytes": large["bytes"],
        "memory": large["memory"],
        "memory of each": max(0.0, large["memory"] - small["memory"]) / more,
    }


def dry_run(folder: Path, shards: int) -> dict[str, float]:
    """What Snakemake takes to know what to run, and each job's Snakemake to know its one job."""
    settings = {"num_trajectories": 2500 * shards, "shard_size": 2500}
    options = ("--dry-run", "--quiet", "all")
    whole = snakemake(folder, settings, *options, "results/dataset.h5")
    one = snakemake(folder, settings, *options, "results/policies/00000.h5")
    return {"seconds": cpu(whole), "memory": whole.ru_maxrss / 1000, "one job": cpu(one)}


def cpu(usage: struct_rusage) -> float:
    """s of a process and its children."""
    return usage.ru_utime + usage.ru_stime


def snakemake(folder: Path, settings: dict[str, Any], *options: str) -> struct_rusage:
    """Run it, and give what it used."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [*SNAKEMAKE, "--directory", str(folder), *options[:-1]]
    command += ["--configfile", str(folder / "settings.json"), "--", options[-1]]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((folder / "output.txt").read_text()[-2000:])
    return usage


def reading() -> float:
    """Batches/s that training can draw from a file on a warm disk."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--copies", "20", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--steps", "0"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    row = next(line for line in done.stdout.splitlines() if line.startswith("| streamed"))
    return float(row.split("|")[3].replace(",", ""))


def print_measured(measured: dict[str, Any]) -> None:
    """What was measured, as tables."""
    print("| rule | start, s | a trajectory, ms | bytes a trajectory | memory, MB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for rule in RULES:
        row = measured[rule]
        print(
            f"| `{rule}` | {row['start']:.2f} | {1000 * row['each']:.3f} | {row['bytes']:,.0f} "
            f"| {row['memory']:.0f} |"
        )
    print("\n| shards | Snakemake knows what to run, s | memory, MB | in one job, s |")
    print("| ---: | ---: | ---: | ---: |")
    for row in measured["snakemake"]:
        print(
            f"| {row['shards']:,} | {row['seconds']:.1f} | {row['memory']:.0f} "
            f"| {row['one job']:.1f} |"
        )
    print(f"\nTraining can read {measured['reading']:.0f} batches of 512 a second.\n")


def print_plan(measured: dict[str, Any], count: int, cores: int, sizes: Sequence[int]) -> None:
    """The plan for some shard sizes beside each other."""
    plans = [plan(measured, count, cores, size) for size in sizes]
    print(f"{count:,} trajectories on {cores} cores\n")
    print("| | how | " + " | ".join(f"shards of {size:,}" for size in sizes) + " |")
    print("| --- | --- |" + " ---: |" * len(sizes))
    for name, (formula, _) in plans[0].items():
        print(f"| {name} | {formula} | " + " | ".join(each[name][1] for each in plans) + " |")


def plan(measured: dict[str, Any], count: int, cores: int, size: int) -> dict[str, tuple[str, str]]:
    """By name, a formula in words, and its value."""
    shards = math.ceil(count / size)
    policies, rollouts, dataset = (measured[rule] for rule in RULES)
    work = count * (policies["each"] + rollouts["each"])
    seconds, memory, start = (extrapolate(measured["snakemake"], shards, of) for of in UNITS)
    # A job on Slurm starts Snakemake twice, one within the other, and then the command.
    starts = shards * (2 * 2 * start + policies["start"] + rollouts["start"])
    merge = dataset["start"] + count * dataset["each"]
    least = 19 * starts / shards / (policies["each"] + rollouts["each"])
    memory_of_job = max(
        rule["memory"] + rule["memory of each"] * max(0, size - SIZES[1])
        for rule in (policies, rollouts)
    )
    submitting = shards * 2 / SUBMISSIONS
    return {
        "shards": ("N / shard size", f"{shards:,}"),
        "Slurm jobs and `sbatch` calls": ("2 x shards + 1", f"{2 * shards + 1:,}"),
        "files": ("10 x shards", f"{10 * shards:,}"),
        "files in the largest folder": ("2 x shards", f"{2 * shards:,}"),
        "policies and rollouts, GB": (
            "N x bytes",
            f"{count * (policies['bytes'] + rollouts['bytes']) / 1e9:,.0f}",
        ),
        "data set, GB": ("N x bytes", f"{count * dataset['bytes'] / 1e9:,.0f}"),
        "simulation, core-hours": ("N x time", f"{work / 3600:,.0f}"),
        "starts of jobs, core-hours": ("shards x starts of two jobs", f"{starts / 3600:,.1f}"),
        "share of starts": ("starts / all", f"{starts / (starts + work):.1%}"),
        "shard size for a share of 5 %": ("19 x starts of a shard / time", f"{least:,.0f}"),
        "simulation and starts, hours": (
            "sum / cores",
            f"{(work + starts) / cores / 3600:,.2f}",
        ),
        "memory of a job, MB": ("start + size x memory", f"{memory_of_job:,.0f}"),
        "Snakemake's start, minutes": ("from dry runs", f"{seconds / 60:,.1f}"),
        "Snakemake's memory, GB": ("from dry runs", f"{memory / 1000:,.1f}"),
        "submitting, hours": (f"jobs / {SUBMISSIONS} a second", f"{submitting / 3600:,.2f}"),
        "merge, hours on one core": ("N x time", f"{merge / 3600:,.1f}"),
        "merge's memory, MB": ("as measured", f"{dataset['memory']:,.0f}"),
        "one pass of training over the data, hours": (
            "N x 20 transitions / (512 x batches/s)",
            f"{count * TRANSITIONS / 512 / measured['reading'] / 3600:,.1f}",
        ),
    }


SUBMISSIONS = 10
"""Jobs that Snakemake submits in a second: 20 took two seconds on the tests' Slurm."""
TRANSITIONS = 20
"""Of a trajectory at default settings, about: one from each of its control steps."""
UNITS = ("seconds", "memory", "one job")


def extrapolate(rows: Sequence[dict[str, float]], shards: int, of: str) -> float:
    """Along the line through the two measurements nearest to a number of shards."""
    low, high = sorted(rows, key=lambda row: abs(math.log(row["shards"] / shards)))[:2]
    slope = (high[of] - low[of]) / (high["shards"] - low["shards"])
    return low[of] + slope * (shards - low["shards"])


if __name__ == "__main__":
    main()
