"""The planner `cem`: every action is one DMP from where the agent is.

The cross-entropy method, with the best candidates themselves in the place of a fitted distribution:
in the first round, policies are drawn as those of the training data are; in each later one, the
best of all before are varied, by less and less.
"""

import numpy as np

from nsf_pipeline.config import CEMConfig, PolicyConfig
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.planning.pushes import Candidates, taken
from nsf_pipeline.planning.search import KEPT, Found, Search, merged

GOAL_SPREAD, DURATION_SPREAD, WEIGHT_SPREAD = 25.0, 0.2, 0.35
"""px; s; standard deviations of the variations in the second round."""
SHRINK = 0.6
"""How much smaller the variations are in each later round."""


def find(search: Search, config: CEMConfig) -> list[Found]:
    """The best pushes of each episode, best first."""
    prior = PolicyConfig(duration=config.duration)
    kept, count, dmp = max(KEPT, config.elites), config.candidates, search.model.dmp
    found: list[Found] = []
    for number in range(config.rounds):
        proposals = []
        for episode, (state, random) in enumerate(zip(search.states, search.randoms, strict=True)):
            if number:
                elites = found[episode].candidates.policies
                policies = _varied(random, elites, number - 1, config, prior)
            else:
                policies = sample_policy(random, state, prior, dmp, search.noise, (count,))
            proposals.append(Candidates.without_transit(state, policies))
        latest = search.evaluate(proposals)
        if number:
            pairs = zip(found, latest, strict=True)
            found = [merged(before, after, kept) for before, after in pairs]
        else:
            found = [each.best(kept) for each in latest]
    return found


def _varied(
    random: np.random.Generator,
    policies: DMPParams,
    number: int,
    config: CEMConfig,
    prior: PolicyConfig,
) -> DMPParams:
    """Variations of the first policies, all about equally often."""
    count, scale = config.candidates, SHRINK**number
    varied = taken(policies, np.arange(count) % min(config.elites, len(policies.duration)))
    low, high = np.array([prior.goal_x, prior.goal_y]).T
    goal = varied.goal + random.normal(0.0, scale * GOAL_SPREAD, varied.goal.shape)
    duration = varied.duration + random.normal(0.0, scale * DURATION_SPREAD, count)
    weights = varied.weights + random.normal(0.0, scale * WEIGHT_SPREAD, varied.weights.shape)
    return varied._replace(
        goal=np.clip(goal, low, high),
        duration=np.clip(duration, *config.duration),
        weights=np.clip(weights, *prior.weights),
    )
