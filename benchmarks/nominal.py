"""How near the nominal motion that the networks see is to the simulator's without noise.

    python -m benchmarks.nominal [--trajectories 2000]

Fresh trajectories without noise on the targets; from states of theirs, chosen at random, the
nominal motion to each horizon, beside where the trajectory itself went.
"""

import argparse

import jax
import numpy as np
from jax import Array

from nsf_pipeline.config import Config
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.transitions import join_state
from nsf_pipeline.model.nominal import nominal_motion

HORIZONS = (1, 5, 10, 20)
"""Control steps."""


def main() -> None:
    """Print a table of errors for agent and block."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=2000)
    options = parser.parse_args()
    config = Config.model_validate_json('{"simulation": {"action_noise_std": 0.0}}')
    rollouts = simulate(config, sample_policies(config, 0, options.trajectories))
    states = join_state(rollouts, 7)
    length, condition = rollouts["length"], rollouts["condition"].astype(np.float32)

    @jax.jit
    @jax.vmap
    def ahead(state: Array, s: Array, t: Array, condition: Array) -> Array:
        motion = nominal_motion(state, s, t, condition, config.model, config.dmp)
        return motion.displacements[-1]

    random = np.random.default_rng(0)
    print("Of states whose block moves more than 0.5 px within the horizon (px):\n")
    print("| s | states | it moves | missed: median | 75 % | 90 % | mean | agent, at most |")
    print(f"| ---: |{' ---: |' * 7}")
    for steps in HORIZONS:
        rows = np.flatnonzero(length >= steps)
        begin = random.integers(0, length[rows] - steps + 1)
        start, end = states[rows, begin], states[rows, begin + steps]
        times = (0.1 * begin).astype(np.float32), (0.1 * (begin + steps)).astype(np.float32)
        error = start + np.asarray(ahead(start, *times, condition[rows])) - end
        missed, moved = (np.linalg.norm(x[:, 4:6], axis=1) for x in (error, end - start))
        some = moved > 0.5
        cells = [f"{moved[some].mean():.1f}"]
        cells += [f"{np.quantile(missed[some], share):.3f}" for share in (0.5, 0.75, 0.9)]
        cells += [f"{missed[some].mean():.2f}", f"{np.abs(error[:, :2]).max():.3f}"]
        print(f"| {0.1 * steps:.1f} | {some.sum()} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
