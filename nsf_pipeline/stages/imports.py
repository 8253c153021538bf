"""Demonstrations turned into policies, rollouts and a data set."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from nsf_pipeline import paths
from nsf_pipeline.config import Config, DatasetConfig
from nsf_pipeline.config.policies import MAX_GIVEN, MOST_GIVEN
from nsf_pipeline.data import store
from nsf_pipeline.data.imports import SHORTEST, Cutter, Stretch, demonstrations
from nsf_pipeline.data.merge import in_one_file
from nsf_pipeline.data.policy_file import policy_file, save_policy
from nsf_pipeline.data.rollouts import desired_positions, replayed
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import new_folder, require_new
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.system.printing import say as print_line
from nsf_pipeline.timing import CONTROL_DT, num_steps

STAGE = STAGES["import"]
COLUMNS = ("episode", "first_step", "steps", "residual_px", "replay_error_px", "became")
POLICY, RECORDED, LEFT_OUT = "policy", "rollout", "left out"
EVERY = 100
"""Episodes between two lines that say how far an import is."""


def run(
    config: Config, source: Path, output: Path, most_residual: float, tolerance: float
) -> list[Stretch]:
    """Import demonstrations into a new folder.

    Each stretch that replays to within the tolerance becomes a rollout with its recorded actions,
    conditioned on the DMP nearest to these. Where the DMP is near enough, it becomes a policy too.

    Args:
        config: the settings: of the DMPs, and how long they last.
        source: a folder of a known format.
        output: the new folder.
        most_residual: px; root mean square of the difference between a DMP's targets and the
            recorded actions, up to which the DMP is a policy.
        tolerance: px; how far a replay may stray from what is recorded.

    Returns:
        The stretches that are kept.

    Raises:
        FileError: the source cannot be read, or the folder exists or cannot be written.
        UserError: nothing replays, or the settings do not suit demonstrations.
    """
    started = time.monotonic()
    require_new(output)
    if not config.policies.scene.is_usual:
        raise UserError(
            "policies.scene: demonstrations are replayed in gym-pusht's scene, and the settings "
            "have another; leave it as it is"
        )
    cutter, found = Cutter(config, most_residual), list[Stretch]()
    episodes = 0
    for demonstration in demonstrations(source):
        found += cutter.cut(demonstration)
        episodes += 1
        if not episodes % EVERY:
            print_line(f"{episodes} episodes, {time.monotonic() - started:.0f} s")
    if not found:
        raise UserError(
            f"{source}: expected demonstrations of at least {SHORTEST} steps, found none"
        )
    kept = [each for each in found if each.error <= tolerance]
    if not kept:
        nearest = min(each.error for each in found)
        raise UserError(
            f"{source}: none of {len(found)} stretches of at least {SHORTEST} steps replays to "
            f"within {tolerance:g} px (the nearest: {nearest:.3g} px); raise --tolerance, or name "
            "demonstrations of gym-pusht's physics"
        )
    smooth = [each for each in kept if each.residual <= most_residual]
    settings = _settings(config, len(kept))
    with new_folder(output) as beside:
        made = Record.new(STAGE, settings)
        if smooth:
            _write_policies(beside, output, smooth, config, made)
        _write_rollouts(beside, kept, settings, made)
        with (beside / "stretches.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            rows.writerows(_row(each, most_residual, tolerance) for each in found)
    for name, values in (
        ("residual of the DMPs", [each.residual for each in kept]),
        ("error of the replays", [each.error for each in kept]),
    ):
        low, high = np.quantile(values, (0.5, 0.9))
        print_line(f"{name}: {low:.3g} px in the median, {high:.3g} px at the 90 % quantile")
    lost = len(found) - len(kept)
    what = f"{episodes} episodes, {len(kept)} rollouts, {len(smooth)} policies"
    left = f"{lost} stretches left out, which do not replay to within {tolerance:g} px"
    say(output, f"{what}; {left}", started)
    return kept


def _settings(config: Config, count: int) -> Config:
    """The settings of a data set of so many trajectories in one shard, which may be few.

    Raises:
        UserError: the settings do not suit so many trajectories.
    """
    dataset = DatasetConfig.model_validate(
        config.dataset.model_dump() | {"trajectories_per_file": 0}
    )
    transitions = int(count * (1.0 - dataset.held_out) * num_steps(config.policies.duration[0]))
    batch_size = max(1, min(config.training.batch_size, transitions))
    trajectories = tuple(each for each in config.videos.trajectories if each < count)
    predicted = tuple(
        each for each in config.videos.predicted if each < count * dataset.test_fraction
    )
    settings = config.model_copy(
        update={
            "num_trajectories": count,
            "shard_size": count,
            "policies": config.policies.model_copy(update={"given": ()}),
            "dataset": dataset,
            "training": config.training.model_copy(update={"batch_size": batch_size}),
            "videos": config.videos.model_copy(
                update={"trajectories": trajectories, "predicted": predicted}
            ),
        }
    )
    if contradiction := next(settings.contradictions(), ""):
        raise UserError(f"the settings do not suit {count} imported trajectories: {contradiction}")
    return settings


def _arrays(stretches: Sequence[Stretch]) -> dict[str, np.ndarray]:
    """The arrays of a policy shard."""
    policies = (each.policy for each in stretches)
    params = DMPParams(*(np.stack(values) for values in zip(*policies, strict=True)))
    count = len(stretches)
    return {
        "trajectory": np.arange(count),
        "seed": np.zeros(count, int),
        "initial_state": np.stack([each.state for each in stretches]),
        "from_reset": np.zeros(count, bool),
        **params._asdict(),
        "condition": params.as_vector(),
    }


def _write_policies(
    folder: Path, final: Path, stretches: Sequence[Stretch], config: Config, made: Record
) -> None:
    """Write policies as a shard, and as many of the first as `policies.given` takes as files."""
    store.write(folder / "policies.h5", "policies", _arrays(stretches), made.fields())
    names, size = list[str](), 0
    for number, each in enumerate(stretches[:MAX_GIVEN]):
        name = Path("policies", f"{paths.shard_name(number)}.json")
        file = policy_file(each.state, each.policy, config.dmp)
        size += len(file.text())
        if size > MOST_GIVEN:
            break
        save_policy(folder / name, file)
        names.append(str(final / name))
    own = {"duration": list(config.policies.duration), "given": names}
    given = {"policies": own, "dmp": config.dmp.model_dump(mode="json")}
    (folder / "given.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")


def _write_rollouts(
    folder: Path, stretches: Sequence[Stretch], config: Config, made: Record
) -> None:
    """Write rollouts with recorded actions, their data set, and its settings."""
    policies = _arrays(stretches)
    longest = num_steps(config.policies.duration[1])
    actions = np.zeros((len(stretches), longest, 2), np.float32)
    for row, each in enumerate(stretches):
        actions[row, : len(each.actions)] = each.actions
    planned = np.array([len(each.actions) for each in stretches])
    targets = desired_positions(policies["condition"], config)
    rollouts = replayed(policies, targets, actions, planned)
    shard = folder / "rollouts.h5"
    store.write(shard, "rollouts", rollouts, made.fields() | {"dt": CONTROL_DT})
    in_one_file(
        [shard],
        config,
        STAGES["dataset"],
        (0, len(stretches)),
        output=folder / "dataset.h5",
        metadata_output=folder / "dataset.meta.json",
    )
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (folder / "settings.yaml").write_text(text, encoding="utf-8")


def _row(stretch: Stretch, most_residual: float, tolerance: float) -> tuple[object, ...]:
    became = POLICY if stretch.residual <= most_residual else RECORDED
    return (
        stretch.episode,
        stretch.first,
        len(stretch.actions),
        f"{stretch.residual:.4g}",
        f"{stretch.error:.4g}",
        became if stretch.error <= tolerance else LEFT_OUT,
    )
