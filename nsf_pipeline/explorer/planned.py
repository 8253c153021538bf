"""A push planned from the state on the page, to the environment's goal."""

from pathlib import Path

import jax

from nsf_pipeline.config import PolicyFile, SearchConfig
from nsf_pipeline.config.planning import Planner
from nsf_pipeline.data.policy_file import policy_file, start_of
from nsf_pipeline.explorer.believed import Models, require_same_dmps
from nsf_pipeline.planning import Nominal, OnePass, Plan, WorldModel, plan

DRAWS = 4
"""Of each candidate's end."""


def plan_from(file: PolicyFile, path: Path | None, models: Models, planner: Planner) -> Plan:
    """Plan a push.

    Args:
        file: where it starts, and the noise that it will have.
        path: the file of the model that is asked where pushes end; physics without learning if
            None.
        models: the models.
        planner: which planner; `cem` gives a DMP from where the agent is.

    Raises:
        UserError: one line: things overlap in the state, or the model cannot be used.
    """
    world: WorldModel = Nominal(file.dmp)
    if path is not None:
        require_same_dmps(path, models[path], file)
        world = OnePass(models[path], DRAWS)
    return plan(
        world,
        start_of(file),
        key=jax.random.key(0),
        config=SearchConfig(planner=planner),
        action_noise_std=file.policy.action_noise_std,
    )


def policy_of(found: Plan, file: PolicyFile) -> PolicyFile:
    """The DMP of a plan, and where it starts: after the transit, if there is one.

    The agent arrives some px from where the plan has the DMP start; here the DMP starts there.
    """
    state = found.considered.candidates.states[0]
    return policy_file(state, found.push.policy, file.dmp)
