"""Episodes: a shard of a row of the planning tables, played in gym-pusht's own environment."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.config.protocols import DISJOINT, MOST_CHECKED
from nsf_pipeline.data.randomness import reset_seed
from nsf_pipeline.errors import UserError
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.protocols.episodes import play
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.protocols.planners import WARM_UP, at_random, decider, rules_of
from nsf_pipeline.protocols.rows import RANDOM, Row
from nsf_pipeline.stages import say
from nsf_pipeline.stages.planners import Shard


@with_defaults
def run(
    config: Config,
    row: Row,
    first_seed: int,
    first: int,
    stop: int,
    model_path: Path | None,
    output: Path,
    seconds: Path | None,
) -> None:
    """Play some episodes of a row.

    Args:
        config: the settings, with a variant's changes if the row is of a variant.
        row: what plays which episodes.
        first_seed: of `env.reset` of episode 0.
        first: number of the first episode.
        stop: one past the last.
        model_path: the row's trained model; None if it has none.
        output: the shard.
        seconds: JSON with the time that it took, which differs from run to run; None for none.

    Raises:
        FileError: the model cannot be read, is stale or of other settings, or a file cannot be
            written.
        UserError: the row needs a trained model and has none, or a trajectory of the data was reset
            with one of the episodes' seeds.
    """
    started = time.monotonic()
    shard = Shard("episodes", first, stop, output, seconds)
    model, made = shard.prepare(config, row.model, row.trained, model_path, None)
    if model:
        require_unseen(config, range(first_seed + first, first_seed + stop))
    search = config.planning.search
    if row.planner == RANDOM:
        decide = at_random(config.dmp, row, search, config.seed)
    else:
        decide = decider(world_model(row.model, model, config.dmp), row, search, config.seed)
    decide([WARM_UP])
    arrays, took = play(decide, rules_of(row), config.seed, first_seed, first, stop)
    shard.write(made, row.described(), arrays, took)
    number = int((arrays["first_step"][:, 0] > 0).sum())
    say(
        output,
        f"{number} of {stop - first} episodes exceeded a coverage of 0.95, "
        f"{took / (stop - first):.2f} s an episode",
        started,
    )


def require_unseen(config: Config, seeds: range) -> None:
    """Check that no trajectory of the data was reset with one of some seeds.

    Raises:
        UserError: one may have been.
    """
    if seeds.start >= DISJOINT:
        return
    more = config.second_round.trajectories if "second_round" in config.held else 0
    count = config.num_trajectories + more
    if count > MOST_CHECKED:
        raise UserError(
            f"--first-seed: the seeds of {count} trajectories are too many to compare with; give "
            f"one from {DISJOINT} on"
        )
    for trajectory in range(count):
        if (seed := reset_seed(config.seed, trajectory)) in seeds:
            raise UserError(
                f"expected seeds that no trajectory was reset with, but trajectory {trajectory} "
                f"was with {seed}; set protocols.first_seed to another number, for example "
                f"{DISJOINT}"
            )
