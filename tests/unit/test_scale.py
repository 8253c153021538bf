"""The plan for many trajectories, from numbers that are easy to work with."""

from typing import Any

import pytest

from benchmarks.scale import extrapolate, parts, plan

MEASURED: dict[str, Any] = {
    "policies": {"start": 1, "each": 1e-3, "bytes": 300, "memory": 100, "memory of each": 0.01},
    "rollouts": {"start": 1, "each": 2e-3, "bytes": 700, "memory": 150, "memory of each": 0.02},
    "dataset": {"start": 1, "each": 1e-4, "bytes": 4000, "memory": 120, "memory of each": 0},
    "snakemake": [
        {"shards": 100, "seconds": 2, "memory": 100, "one job": 2},
        {"shards": 1000, "seconds": 11, "memory": 190, "one job": 2},
    ],
    "reading": 100,
}
PLANNED = {
    "shards": "100",
    "Slurm jobs and `sbatch` calls": "201",
    "policies and rollouts, GB": "1",
    "data set, GB": "4",
    "simulation, core-hours": "1",  # 3,000 s
    "share of starts": "25.0%",  # 100 shards, two jobs each, two starts of 2 s and one of 1 s
    "memory of a job, MB": "250",
    "Snakemake's memory, GB": "0.1",
    "merge, hours on one core": "0.0",
}


@pytest.mark.parametrize("name", PLANNED)
def test_plan_adds_up_what_was_measured(name):
    assert plan(MEASURED, 1_000_000, 10, 10_000)[name][1] == PLANNED[name]


def test_snakemake_is_extrapolated_along_a_line():
    assert extrapolate(MEASURED["snakemake"], 10_000, "seconds") == pytest.approx(101)


def test_a_job_is_divided_into_its_start_and_what_each_trajectory_adds():
    small = {"trajectories": 10, "seconds": 2.0, "memory": 100.0, "bytes": 5.0}
    large = {"trajectories": 110, "seconds": 3.0, "memory": 200.0, "bytes": 4.0}
    found = parts(small, large)
    assert (found["start"], found["each"]) == pytest.approx((1.9, 0.01))
    assert found["memory of each"] == pytest.approx(1)
