"""The rows of the tables: which planner and model play which episodes.

The workflow reads this module, so it imports nothing that takes time.
"""

import itertools
import re
from typing import Any, NamedTuple

from nsf_pipeline.config import Division, ProtocolConfig
from nsf_pipeline.errors import UserError, shown

FLOW, NOMINAL, SIMULATOR = "flow", "nominal", "simulator"
SECOND_ROUND = "second_round"
"""The flow trained on the data of both rounds."""
RANDOM = "random"
"""The floor: random pushes, and as a world model one that knows nothing."""
UNTRAINED = (NOMINAL, SIMULATOR, RANDOM)
CEM, CONTACT, BOTH = "cem", "contact", "both"
STANDARD, SHORT = "standard", "short"
DISTURBED, HELD, HIDDEN, IN_STEPS = "disturbed", "held", "velocity_hidden", "step_by_step"
PLANNERS = (CEM, CONTACT, BOTH)
VARIATIONS = (STANDARD, SHORT, DISTURBED, HELD, HIDDEN, IN_STEPS)
STEPS = "steps"
MODEL_NAME = (
    "(?P<base>[a-z][a-z0-9_]{0,63}?)_"
    "(?:(?P<kind>mean)|(?:(?P<steps>steps)_)?(?P<count>0|[1-9][0-9]{0,4}))"
)


class Row(NamedTuple):
    """A row of the tables.

    Attributes:
        planner: `cem`, `contact`, `both` or `random`.
        model: the name of a world model (`planning.models`); `random` for random pushes.
        action_noise_std: px.
        variation: what else is different: one of the names above.
        episodes: how many.
    """

    planner: str
    model: str
    action_noise_std: float = 0.0
    variation: str = STANDARD
    episodes: int = 0

    @property
    def name(self) -> str:
        """The name of the row's folder."""
        noise = f"noise{self.action_noise_std:g}"
        plain = self.variation == STANDARD
        return "-".join([self.planner, self.model, noise, *([] if plain else [self.variation])])

    def described(self) -> dict[str, Any]:
        """What its files say about it; not the number of episodes, which may be raised."""
        return {name: value for name, value in self._asdict().items() if name != "episodes"}

    @property
    def trained(self) -> str:
        """The trained model behind it: `flow`, a variant's name, or empty if there is none."""
        return trained(self.model)


def checked_row(planner: str, model: str, action_noise_std: float, variation: str) -> Row:
    """A row as someone has asked for it.

    Raises:
        UserError: it has no such planner, world model or variation.
    """
    if (planner == RANDOM) != (model == RANDOM):
        raise UserError(f"--planner {RANDOM} goes with --world-model {RANDOM}, and with no other")
    for name, given, known in (
        ("--planner", planner, (*PLANNERS, RANDOM)),
        ("--variation", variation, VARIATIONS),
    ):
        if given not in known:
            raise UserError(f"{name} {shown(given)}: expected one of {', '.join(known)}")
    if parsed(model)[1] != STEPS and variation == IN_STEPS:
        raise UserError(
            f"--variation {IN_STEPS}: expected a world model that goes in steps, such as "
            f"flow_steps_4, got {model}"
        )
    return Row(planner, model, action_noise_std, variation)


def parsed(model: str) -> tuple[str, str, int]:
    """What the name of a world model says: what it is of, of what kind, and how many draws.

    The names are those of `planning.models`: nominal, random, simulator_N (noisy runs; 0: one
    without noise), flow_N (draws in one pass), flow_mean (the draw without noise), flow_steps_N
    (draws, one control step at a time); a variant's name may stand in place of flow.

    Raises:
        UserError: it is no such name.
    """
    if model in (NOMINAL, RANDOM):
        return model, "", 0
    found = re.fullmatch(MODEL_NAME, model)
    if not found:
        raise UserError(
            f"world model {shown(model)}: expected nominal, simulator_N with N noisy runs (0: one "
            "without noise), or flow_N with N draws, flow_mean or flow_steps_N, or a variant's "
            "name in place of flow"
        )
    base, kind = found["base"], found["kind"] or found["steps"] or ""
    if base == SIMULATOR and kind:
        raise UserError(f"world model {model}: expected simulator_N with N noisy runs")
    if base in (NOMINAL, RANDOM):
        raise UserError(f"world model {model}: expected {base}, which has one draw")
    if found["count"] == "0" and base != SIMULATOR:
        raise UserError(f"world model {model}: expected at least one draw, or {base}_mean")
    return base, kind, int(found["count"] or 0)


def trained(model: str) -> str:
    """The trained model behind a world model: `flow`, a variant's name, or empty."""
    base = parsed(model)[0]
    return "" if base in UNTRAINED else base


def variant_of(trained: str) -> str:
    """The variant that a trained model is; empty for none and for the flow of either round."""
    return "" if trained in (FLOW, SECOND_ROUND) else trained


def shards(row: Row, config: ProtocolConfig) -> list[tuple[int, int]]:
    """For each shard of a row, the number of its first episode and one past its last."""
    division = Division(row.episodes, config.shard_size)
    return [division.shard_range(shard) for shard in range(division.num_shards)]


def standard(config: ProtocolConfig) -> list[Row]:
    """The rows of the standard protocol, without action noise and with 8 px.

    The simulator's rows have as many episodes as the harder ones: it is slow.
    """
    learned = [f"{variant}_4" for variant in config.variants]
    found = []
    # The draw without noise knows of no noise.
    for noise, more in ((0.0, ("flow_mean", "simulator_0")), (8.0, ("simulator_4",))):
        contact = [Row(CONTACT, model, noise) for model in ("flow_4", *more, NOMINAL, *learned)]
        found += [*contact, *(Row(CEM, model, noise) for model in ("flow_4", NOMINAL))]
        found.append(Row(RANDOM, RANDOM, noise))
    return [
        row._replace(
            episodes=min(config.episodes, config.harder_episodes)
            if parsed(row.model)[0] == SIMULATOR
            else config.episodes
        )
        for row in wanted(found, config)
    ]


def is_wanted(model: str, config: ProtocolConfig) -> bool:
    """Whether a world model is one of those that get rows; the floor always is."""
    base = parsed(model)[0]
    if base == RANDOM:
        return True
    return (base if base in UNTRAINED else FLOW) in config.models


def wanted(rows: list[Row], config: ProtocolConfig) -> list[Row]:
    """The rows of the models that get rows."""
    return [row for row in rows if is_wanted(row.model, config)]


def harder(config: ProtocolConfig) -> list[Row]:
    """The rows of the harder protocols."""
    count = config.harder_episodes
    variants = [f"{name}_4" for name in config.variants]
    found = [
        Row(CONTACT, model, 16.0, episodes=count)
        for model in ("flow_4", "flow_16", NOMINAL, "simulator_4", *variants)
    ]
    for noise, exact in ((0.0, ("simulator_0",)), (8.0, ())):
        models = ("flow_4", NOMINAL, *exact, *variants)
        for variation in (DISTURBED, HELD):
            found += [Row(CONTACT, model, noise, variation, count) for model in models]
        found += [
            Row(CONTACT, model, noise, HIDDEN, count) for model in ("flow_4", NOMINAL, *variants)
        ]
    found.append(Row(CONTACT, "flow_steps_4", 0.0, IN_STEPS, count))
    floors = [(16.0, STANDARD), *itertools.product((0.0, 8.0), (DISTURBED, HELD))]
    found += [Row(RANDOM, RANDOM, noise, variation, count) for noise, variation in floors]
    return wanted(found, config)


PAIRED_WITH = "flow_256"
"""The model that the others are compared with in the tasks of one push."""
FIRST_LOOK, SIMULATOR_FIRST_LOOK = 16, 8
"""Draws of a model's first look at the candidates of one push, if it has more."""


def first_look(model: str) -> str:
    """The world model that a model with many draws first looks at all candidates with, or empty."""
    base, kind, count = parsed(model)
    few = SIMULATOR_FIRST_LOOK if base == SIMULATOR else FIRST_LOOK
    return f"{base}_{few}" if not kind and count > few else ""


def worlds(config: ProtocolConfig) -> list[str]:
    """The world models that choose one push under noise."""
    found = [
        *(PAIRED_WITH, "flow_16", "flow_mean", *(f"{name}_256" for name in config.variants)),
        *(NOMINAL, "simulator_0", "simulator_8", "simulator_64", RANDOM),
    ]
    return [model for model in found if is_wanted(model, config)]


def second_round(config: ProtocolConfig) -> list[Row]:
    """The rows that show what a second round of data brings to the harder protocols."""
    places = [
        *((noise, STANDARD, config.episodes) for noise in (0.0, 8.0)),
        (16.0, STANDARD, config.harder_episodes),
        *(
            (noise, variation, config.harder_episodes)
            for noise in (0.0, 8.0)
            for variation in (DISTURBED, HELD, HIDDEN)
        ),
    ]
    return [
        Row(CONTACT, f"{model}_4", *place) for model in (FLOW, SECOND_ROUND) for place in places
    ]


SECOND_WORLDS = (PAIRED_WITH, f"{SECOND_ROUND}_256")
"""The models whose choices of one push show what a second round brings."""

GOALS_AHEAD = (25, 50, 100)
"""Steps between the state and the goal of a task."""


class GoalRow(NamedTuple):
    """A row of the table of goals some steps ahead.

    Attributes:
        planner: `cem`, `contact`, `both` or `random`.
        model: the name of a world model; `random` for random policies.
        steps: between the state and the goal.
    """

    planner: str
    model: str
    steps: int

    @property
    def name(self) -> str:
        """The name of the row's folder."""
        return f"{self.planner}-{self.model}-{self.steps}"

    @property
    def is_random(self) -> bool:
        """Whether nothing is planned."""
        return self.model == RANDOM

    @property
    def trained(self) -> str:
        """The trained model behind it: `flow`, a variant's name, or empty if there is none."""
        return trained(self.model)


def goals(config: ProtocolConfig) -> list[GoalRow]:
    """The rows of the table of goals some steps ahead."""
    by = [
        *((BOTH, model) for model in ("flow_4", NOMINAL, "simulator_0")),
        *((BOTH, f"{variant}_4") for variant in config.variants),
        *((planner, "flow_4") for planner in (CONTACT, CEM)),
    ]
    chosen = [pair for pair in by if is_wanted(pair[1], config)]
    return [
        GoalRow(planner, model, steps)
        for planner, model in (*chosen, (RANDOM, RANDOM))
        for steps in GOALS_AHEAD
    ]


def checked_goal_row(planner: str, model: str, steps: int) -> GoalRow:
    """A row as someone has asked for it.

    Raises:
        UserError: it has no such planner or world model.
    """
    checked_row(planner, model, 0.0, STANDARD)
    return GoalRow(planner, model, steps)


def rows_by_folder(config: ProtocolConfig) -> dict[str, dict[str, tuple[Any, list[Any]]]]:
    """By kind of file and name of a row's folder: what files say of the row, and their spans."""
    episodes = [*standard(config), *harder(config), *second_round(config), *short(config)]
    described = {row.name: (row.described(), shards(row, config)) for row in episodes}
    trial = {
        "action_noise_std": config.push_noise,
        "candidates": config.push_candidates,
        "runs": config.push_runs,
    }
    return {
        "episodes": described,
        "pushes": {
            world: ({"model": world, **trial}, config.push_shards)
            for world in (*worlds(config), *SECOND_WORLDS)
        },
        "goals": {row.name: (row._asdict(), [(0, config.goal_tasks)]) for row in goals(config)},
    }


def short(config: ProtocolConfig) -> list[Row]:
    """The rows of the short table in the default run."""
    count = config.short_episodes
    models = ("flow_4", NOMINAL, "simulator_0")
    found = [Row(CEM, model, 0.0, SHORT, count) for model in models]
    found.append(Row(RANDOM, RANDOM, 0.0, SHORT, count))
    return wanted(found, config) if count else []
