"""How closely the nominal motion that the networks see matches the simulator without noise.

    python -m benchmarks.nominal [--trajectories 2000]

Trajectories are simulated without noise on the targets. From random states of them, the nominal
motion to each horizon is compared with where the trajectory went.
"""

import argparse

import jax
import numpy as np
from jax import Array

from nsf_pipeline.config import Config
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.states import join_state
from nsf_pipeline.model.nominal import nominal_motion
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT

HORIZONS = (1, 5, 10, 20)
"""Control steps."""


def main() -> None:
    """Print a table of errors for agent and block."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=2000)
    options = parser.parse_args()
    config = Config.model_validate_json('{"policies": {"noiseless_fraction": 1.0}}')
    rollouts = simulate(config, sample_policies(config, 0, options.trajectories))
    states = join_state(rollouts, STATE)
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
        times = ((CONTROL_DT * at).astype(np.float32) for at in (begin, begin + steps))
        error = start + np.asarray(ahead(start, *times, condition[rows])) - end
        missed, moved = (
            np.linalg.norm(x[:, STATE.block_position], axis=1) for x in (error, end - start)
        )
        some = moved > 0.5
        cells = [f"{moved[some].mean():.1f}"]
        cells += [f"{np.quantile(missed[some], share):.3f}" for share in (0.5, 0.75, 0.9)]
        cells += [f"{missed[some].mean():.2f}", f"{np.abs(error[:, STATE.agent]).max():.3f}"]
        print(f"| {CONTROL_DT * steps:.1f} | {some.sum()} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
