"""Short jobs on Slurm, sent one by one, as job arrays or in groups, one way after the other.

    python -m benchmarks.slurm_submission --shards 12

It needs what `tests/slurm/cluster.py` needs, and starts a cluster of its own. Every way makes the
same data set, by `profiles/slurm` and the options in `WAYS`.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests/slurm"))
from cluster import COMMANDS, Cluster  # noqa: E402

STATUS = ("squeue", "scontrol", "sinfo")
"""What Snakemake asks the controller with."""


def grouped(size: int) -> list[str]:
    """Options by which Slurm jobs make `size` shards each, one after the other on one core.

    Without the resource `slot`, Snakemake would ask for as many cores as a group has shards. It
    asks for the sum of the members' minutes, so these must be few.
    """
    return [
        *("--groups", "policies=shards", "rollouts=shards"),
        *("--group-components", f"shards={size}"),
        "--set-resources",
        *("policies:slot=1", "policies:runtime=3", "rollouts:slot=1", "rollouts:runtime=5"),
        *("--resources", "slot=1"),
        *("--set-resource-scopes", "slot=local"),
    ]


WAYS = {
    "one by one": [],
    "arrays": ["--slurm-array-jobs", "policies,rollouts"],
    "groups of 4": grouped(4),
    "groups of 12": grouped(12),
}
"""By name, options for Snakemake."""


def main() -> None:
    """Run all ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--trajectories", type=int, default=20, help="of a shard")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--limit", type=float, default=600, help="s that a way may take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "num_trajectories": options.shards * options.trajectories,
            "shard_size": options.trajectories,
            "training": {"batch_size": 64},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        with Cluster(folder / "slurm") as cluster:
            environment = counting(folder, cluster.environment)
            rows = {}
            for place, way in enumerate(options.ways):
                rows[way] = run(folder, place, WAYS[way], cluster, environment, options.limit)
                print(way, rows[way], file=sys.stderr, flush=True)
    print_table(rows, options.shards)


def counting(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which each call of a command of Slurm's is written down in `calls`."""
    path = folder / "counting"
    path.mkdir()
    for command in COMMANDS:
        program = path / command
        program.write_text(
            f'#!/bin/sh\necho {command} >> {folder}/calls\nexec {folder}/slurm/bin/{command} "$@"\n'
        )
        program.chmod(0o755)
    return {**environment, "PATH": f"{path}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}


def run(
    folder: Path,
    place: int,
    way: list[str],
    cluster: Cluster,
    environment: Mapping[str, str],
    limit: float,
) -> dict[str, float | str]:
    """One way's run: times in s, and counts."""
    place_of_results = folder / f"run{place}"
    calls = folder / "calls"
    calls.write_text("")
    known = len(cluster.completed())
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--directory", str(place_of_results), "--configfile", str(folder / "settings.json")),
        *("--workflow-profile", str(ROOT / "profiles" / "slurm"), *way),
        *("--", "results/dataset.h5"),
    ]
    began = time.perf_counter()
    with (folder / f"run{place}.log").open("w") as log:
        subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            timeout=limit,
        )
    wall = time.perf_counter() - began
    jobs = cluster.completed()[known:]
    results = place_of_results / "results"
    made = Counter(calls.read_text().split())
    return {
        "wall": wall,
        "cores": sum(reserved(job) for job in jobs),
        "commands": sum(seconds(path) for path in (results / "benchmarks").rglob("*.tsv")),
        "jobs": len(jobs),
        "sbatch": made["sbatch"],
        "status": sum(made[name] for name in STATUS),
        "logs": len(list((results / "logs" / "slurm").rglob("*.log"))),
        "bytes": hashlib.sha256((results / "dataset.h5").read_bytes()).hexdigest()[:8],
    }


def reserved(job: Mapping[str, str]) -> float:
    """s of cores that a job had, which a cluster counts against its user."""
    start, end = (datetime.fromisoformat(job[name]) for name in ("StartTime", "EndTime"))
    return (end - start).total_seconds() * int(job["ProcCnt"])


def seconds(benchmark: Path) -> float:
    """s that a job's command took."""
    with benchmark.open() as file:
        return float(next(csv.DictReader(file, delimiter="\t"))["s"])


def print_table(rows: Mapping[str, Mapping[str, float | str]], shards: int) -> None:
    """The ways beside each other; the ratios are to the first."""
    first = next(iter(rows.values()))
    print(f"{shards} shards, {os.cpu_count()} cores\n")
    print(
        "| | wall, s | ratio | core-seconds reserved | ratio | of these commands, s "
        "| overhead a shard, core-s | Slurm jobs | `sbatch` | status calls | log files | data set |"
    )
    print("| --- |" + " ---: |" * 11)
    for way, row in rows.items():
        wall, cores, commands = (float(row[name]) for name in ("wall", "cores", "commands"))
        print(
            f"| {way} | {wall:.0f} | {wall / float(first['wall']):.2f} | {cores:.0f} "
            f"| {cores / float(first['cores']):.2f} | {commands:.0f} "
            f"| {(cores - commands) / shards:.1f} | {row['jobs']} | {row['sbatch']} "
            f"| {row['status']} | {row['logs']} | {row['bytes']} |"
        )


if __name__ == "__main__":
    main()
