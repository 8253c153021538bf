"""Verbs that plan, and put planners to the test."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from nsf_pipeline import paths
from nsf_pipeline.cli.command import verb
from nsf_pipeline.cli.options import (
    CONFIG,
    Dataset,
    Folder,
    Output,
    Settings,
    Threads,
    before_jax,
    of_variant,
)
from nsf_pipeline.config import Config, Planner, ProtocolConfig, load_config
from nsf_pipeline.errors import UserError, shown
from nsf_pipeline.system import surroundings

MAX_EPISODES = 100_000
MAX_DRAWS = 65_536
MAX_SEED = 2**63 - 1
MAX_FIRST_SEED = 2**62 - 1
EPISODE_ROWS, SECONDS_ROWS = (Path(path).parent.parent for path in (paths.EPISODES, paths.SECONDS))
PUSH_ROWS = Path(paths.PUSHES).parent.parent
PlayedEpisodes = Annotated[Path, typer.Option(help="Folder of the episodes, a folder a row.")]
PlayedSeconds = Annotated[Path, typer.Option(help="Folder of the times, a folder a row.")]
WorldModel = Annotated[
    str, typer.Option(metavar="NAME", help="A world model: flow_4, nominal, simulator_8, ...")
]
ActionNoise = Annotated[
    float, typer.Option(min=0.0, max=256.0, metavar="PX", help="Noise on the actions.")
]
Seconds = Annotated[Path | None, typer.Option(help="JSON to write: the time that it took.")]
ChosenPushes = Annotated[Path, typer.Option(help="Folder of the chosen pushes, a folder a model.")]
TrainedModel = Annotated[
    Path | None, typer.Option(help="The model, if the world model is a trained one.")
]


@verb("episodes", "--planner contact --world-model flow_4 --stop 50 --output episodes.h5")
def _episodes(
    world_model: WorldModel,
    stop: Annotated[
        int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last episode's number.")
    ],
    output: Output,
    first: Annotated[
        int, typer.Option(min=0, max=MAX_EPISODES, help="The first episode's number.")
    ] = 0,
    planner: Annotated[str, typer.Option(help="cem, contact, both or random.")] = "contact",
    noise: ActionNoise = 0.0,
    variation: Annotated[
        str, typer.Option(metavar="NAME", help="What else is different from the standard.")
    ] = "standard",
    first_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_FIRST_SEED,
            metavar="SEED",
            help="Seed of the reset of episode 0; protocols.first_seed if unset.",
        ),
    ] = None,
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    threads: Threads = None,
) -> None:
    """Play episodes of gym-pusht's environment with a planner."""
    from nsf_pipeline.protocols.rows import checked_row, parsed, variant_of

    row = checked_row(planner, world_model, noise, variation)
    settings = of_variant(load_config(config), "--world-model", variant_of(row.trained))
    _require_some(first, stop)
    before_jax(threads)
    _require_room(settings, planner, stop - first, parsed(world_model)[2])
    from nsf_pipeline.stages import episodes

    if first_seed is None:
        first_seed = _protocols(settings).first_seed
    episodes.run(settings, row, first_seed, first, stop, model, output, seconds)


@verb("pushes", "--world-model flow_256 --model results/model.eqx --stop 10 --output pushes.h5")
def _pushes(
    world_model: WorldModel,
    stop: Annotated[int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last task.")],
    output: Output,
    first: Annotated[int, typer.Option(min=0, max=MAX_EPISODES, help="The first task.")] = 0,
    noise: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=256.0,
            metavar="PX",
            help="Noise on the actions; protocols.push_noise if unset.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            metavar="N",
            help="Pushes to choose from, about; protocols.push_candidates if unset.",
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_536,
            metavar="N",
            help="Noisy runs of the chosen push; protocols.push_runs if unset.",
        ),
    ] = None,
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    dataset: Dataset = Path(paths.DATASET),
    threads: Threads = None,
) -> None:
    """Let a world model choose single pushes from test states, and run them with noise."""
    from nsf_pipeline.protocols.rows import trained, variant_of

    variant = variant_of(trained(world_model))
    settings = of_variant(load_config(config), "--world-model", variant)
    _require_some(first, stop)
    before_jax(threads)
    from nsf_pipeline.protocols.one_push import Trial
    from nsf_pipeline.stages import pushes

    usual = _protocols(settings)
    trial = Trial(
        usual.push_noise if noise is None else noise,
        usual.push_candidates if candidates is None else candidates,
        usual.push_runs if runs is None else runs,
    )
    pushes.run(settings, world_model, trial, first, stop, model, dataset, output, seconds)


@verb("goals", "--world-model nominal --steps 25 --stop 10 --output goals.h5")
def _goals(
    world_model: WorldModel,
    steps: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Steps from the state to the goal.")
    ],
    stop: Annotated[int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last task.")],
    output: Output,
    first: Annotated[int, typer.Option(min=0, max=MAX_EPISODES, help="The first task.")] = 0,
    planner: Annotated[str, typer.Option(help="cem, contact, both or random.")] = "contact",
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    dataset: Dataset = Path(paths.DATASET),
    threads: Threads = None,
) -> None:
    """Try tasks with goals some steps ahead on the same test trajectory."""
    from nsf_pipeline.protocols.rows import checked_goal_row, parsed, variant_of

    row = checked_goal_row(planner, world_model, steps)
    settings = of_variant(load_config(config), "--world-model", variant_of(row.trained))
    _require_some(first, stop)
    before_jax(threads)
    _require_room(settings, planner, stop - first, parsed(world_model)[2])
    from nsf_pipeline.stages import goals

    goals.run(settings, row, first, stop, model, dataset, output, seconds)


@verb("goal-tables", "--config my.yaml")
def _goal_tables(
    config: Settings = CONFIG,
    goals: Annotated[Path, typer.Option(help="Folder of the tasks, a folder a row.")] = Path(
        paths.GOALS
    ).parent.parent,
    times: PlayedSeconds = Path(paths.GOAL_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of goals some steps ahead."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.goals(settings, goals, times, output)


@verb("push-tables", "--config my.yaml")
def _push_tables(
    config: Settings = CONFIG,
    pushes: ChosenPushes = PUSH_ROWS,
    times: PlayedSeconds = Path(paths.PUSH_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of one push under noise."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.pushes(settings, pushes, times, output)


@verb("planning-tables", "--config my.yaml")
def _planning_tables(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the tables of the standard and the harder planning protocols."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.run(settings, episodes, times, output)


@verb("episode-videos", "--config my.yaml")
def _episode_videos(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    output: Folder = Path(paths.EPISODE_VIDEO).parent,
) -> None:
    """Record episodes that were planned with the flow: three successes, and the hardest three."""
    settings = load_config(config)
    from nsf_pipeline.stages import episode_videos

    episode_videos.run(settings, episodes, output)


@verb("second-round", "--config my.yaml")
def _second_round(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    pushes: ChosenPushes = PUSH_ROWS,
    push_times: PlayedSeconds = Path(paths.PUSH_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of what a second round of data brings to planning."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import dataset, planning

    dataset.require_second_round(settings)
    planning.second_round(settings, episodes, times, pushes, push_times, output)


@verb("short-planning", "--config my.yaml")
def _short_planning(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the short table of planning that the default run has."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.short(settings, episodes, times, output)


@verb("plan", "--model results/model.eqx --seed 7 --output push.json")
def _plan(
    config: Settings = CONFIG,
    model: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="The model; or nominal (physics alone), or simulator (slow)."
        ),
    ] = paths.MODEL,
    draws: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_DRAWS,
            metavar="N",
            help="The model's draws of where a push ends; 0: the one without noise.",
        ),
    ] = 4,
    in_steps: Annotated[
        bool,
        typer.Option(
            "--in-steps", help="Ask a trained model one control step at a time; this is slow."
        ),
    ] = False,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Agent x, y, velocity x, y, block x, y (px), angle (rad), by commas; the velocity "
            "may be left out.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, metavar="N", help="Or the seed of a reset."),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS", help="The block's goal: x, y, angle; the environment's if unset."
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="How much of the goal to cover; 0.95 if unset."),
    ] = None,
    planner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cem, contact or both (planning.search.planner)."),
    ] = None,
    action_noise_std: Annotated[
        float, typer.Option(metavar="PX", help="Noise on the actions when they are executed.")
    ] = 0.0,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write; printed if unset.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Plan a push from a state to a goal, with a model."""
    settings = load_config(config)
    start: int | list[float]
    match state, seed:
        case str(), None:
            start = _numbers("--state", state)
        case None, int():
            start = seed
        case _:
            raise UserError("expected either --state or --seed: where the push starts; give one")
    if planner is not None:
        if planner not in get_args(Planner):
            raise UserError(
                f"--planner {shown(planner)}: expected one of {', '.join(get_args(Planner))}"
            )
        search = settings.planning.search.model_copy(update={"planner": planner})
        planning = settings.planning.model_copy(update={"search": search})
        settings = settings.model_copy(update={"planning": planning})
    pose = None if goal is None else _numbers("--goal", goal)
    before_jax(threads)
    _require_room(settings, settings.planning.search.planner, 1, 1 if model == "nominal" else draws)
    from nsf_pipeline.stages import plan

    plan.run(settings, model, draws, in_steps, start, pose, coverage, action_noise_std, output)


def _numbers(option: str, text: str) -> list[float]:
    """Numbers that an option separates by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{option} {shown(text)}: expected numbers separated by commas, as in 100,200,0.5"
        ) from None


def _protocols(settings: Config) -> ProtocolConfig:
    """The settings of protocols; the usual ones if a job's stamp holds none."""
    return settings.protocols if "protocols" in settings.held else ProtocolConfig()


def _require_some(first: int, stop: int) -> None:
    if stop <= first:
        raise UserError(f"--stop {stop} must be more than --first {first}")


def _require_room(settings: Config, planner: str, searches: int, draws: int) -> None:
    """Check, before anything is searched, that no question to the model will be too big.

    Args:
        settings: with `planning.search`.
        planner: by which the searches are.
        searches: side by side.
        draws: of the model, of each push; 0 for the one without noise.
    """
    from nsf_pipeline.config.planning import MOST_AT_ONCE
    from nsf_pipeline.planning.models import MOST_ENDS

    pushes = searches * settings.planning.search.at_once_by(planner)
    if pushes > MOST_AT_ONCE:
        raise UserError(
            f"{searches} searches side by side ask for {pushes} pushes at once, more than "
            f"{MOST_AT_ONCE}; ask for fewer searches, or lower the numbers of planning.search"
        )
    draws = max(1, draws)
    if pushes * draws > MOST_ENDS:
        raise UserError(
            f"{pushes} pushes at once with {draws} draws each are more than {MOST_ENDS} "
            "predictions; ask for fewer draws or searches, or lower the numbers of planning.search"
        )
