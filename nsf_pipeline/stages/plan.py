"""Planning one push, and its file."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from nsf_pipeline.config import Config, SearchConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import require_place
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning import Goal, plan_batch
from nsf_pipeline.planning.file import PlanFile, save_plan
from nsf_pipeline.planning.models import Nominal, Simulated, WorldModel, learned
from nsf_pipeline.planning.planner import known_state, require_clear
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.geometry import GOAL_POSE, SUCCESS_THRESHOLD
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.stages import say
from nsf_pipeline.stages.models import read_model
from nsf_pipeline.stages.planners import name_of
from nsf_pipeline.system import printing

NOMINAL, SIMULATOR = "nominal", "simulator"


@with_defaults
def run(
    config: Config,
    model: str,
    draws: int,
    in_steps: bool,
    start: Sequence[float] | int,
    goal: Sequence[float] | None,
    coverage: float | None,
    action_noise_std: float,
    output: Path | None,
) -> PlanFile:
    """Plan one push, and write it to a file or print it.

    Args:
        config: the settings; the seed, `planning.search` and, for a model that was not trained,
            `dmp` are read.
        model: the file of a model, or `nominal` or `simulator`.
        draws: of each candidate's end; 0 for the one without noise.
        in_steps: ask a trained model one control step at a time.
        start: the state, 7 or 5 numbers; or the seed of the environment's reset.
        goal: the pose that the block should take, px, px, rad; None for the environment's.
        coverage: the share of the goal to cover; None for the environment's.
        action_noise_std: px; the noise that the executed actions will have.
        output: the file; None prints the plan.

    Raises:
        UserError: an argument means nothing, the model cannot be read, or the file not be written.
    """
    started = time.monotonic()
    if output is not None:
        require_place(output)
    search: SearchConfig = config.planning.search
    aim = Goal(
        GOAL_POSE if goal is None else np.asarray(goal),
        SUCCESS_THRESHOLD if coverage is None else coverage,
    )
    aim = aim.meant()
    if isinstance(start, int):
        state = Simulator().reset(start)  # which may overlap
    else:
        state = known_state(start)
        require_clear(state)
    world = _world_model(config, model, draws, in_steps)
    (found,) = plan_batch(
        world,
        state[None],
        goals=aim,
        keys=[jax.random.key(config.seed)],
        config=search,
        action_noise_std=action_noise_std,
    )
    made = PlanFile.of(found, state, aim, search.planner, world.name, world.dmp)
    if output is None:
        printing.say(made.text(), end="")
    else:
        save_plan(output, made)
        say(output, f"a push of {made.seconds:.1f} s, expected cost {made.cost:.2f} s", started)
    return made


def _world_model(config: Config, model: str, draws: int, in_steps: bool) -> WorldModel:
    if in_steps and (model in (NOMINAL, SIMULATOR) or not draws):
        raise UserError(
            "--in-steps needs draws of a trained model: give its file by --model, and --draws from "
            "1 on"
        )
    if model == NOMINAL:
        return Nominal(config.dmp)
    if model == SIMULATOR:
        return Simulated(config.dmp, draws)
    trained, header = read_model(model, config)
    return learned(trained, draws, name_of(Record.read(header)), in_steps=in_steps)
