"""Data in other scenes than gym-pusht's: against an altered gym-pusht, stored, and refused."""

import numpy as np
import pytest
from conftest import simulated
from gym_pusht.envs import PushTEnv
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon

from nsf_pipeline.config import ExportConfig, parse_config
from nsf_pipeline.config.scene import SceneConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.exports.source import chosen_from
from nsf_pipeline.data.picture import GOAL, picture, summarise
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.recording import one_trajectory, replayed
from nsf_pipeline.data.replay import replay
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.scenes import FACTORS, factors_of, in_row
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.ensembles import load_test_split
from nsf_pipeline.evaluation.prediction import held_out_trajectory, predicted
from nsf_pipeline.files import FileError
from nsf_pipeline.pusht.compat import ensure_add_collision_handler
from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.geometry import t_outline
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import STAGES, dataset, policies, rollouts
from nsf_pipeline.stamps import Stamps

COUNT = 24
SCENE = {
    "block_scale": [0.6, 1.3],
    "agent_radius": [8.0, 25.0],
    "goal_x": [220.0, 300.0],
    "goal_degrees": [-90.0, 90.0],
    "walls": [20.0, 490.0],
}


def settings(scene, **others):
    return parse_config(
        {
            "num_trajectories": COUNT,
            "shard_size": COUNT // 2,
            "policies": {"scene": scene},
            "training": {"batch_size": 8},
            "videos": {"trajectories": [], "ranked": [], "predicted": []},
            **others,
        },
        "settings",
    )


def altered(factors):
    """gym-pusht's environment, which makes its scene of other things."""
    low, high = factors.walls

    class Altered(PushTEnv):
        @staticmethod
        def add_segment(space, a, b, radius):
            moved = {5: low - 2.0, 506: high + 2.0}
            return PushTEnv.add_segment(space, *(tuple(map(moved.get, end)) for end in (a, b)), 2)

        @staticmethod
        def add_circle(space, position, radius):
            return PushTEnv.add_circle(space, position, factors.agent_radius)

        @staticmethod
        def add_tee(space, position, angle):
            return PushTEnv.add_tee(space, position, angle, scale=30 * factors.block_scale)

        def _setup(self):
            super()._setup()
            self.goal_pose = np.array(factors.goal_pose)

    ensure_add_collision_handler()
    return Altered()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Settings, and the folder of a run in other scenes, with its data set."""
    folder, config = tmp_path_factory.mktemp("scenes"), settings(SCENE)
    shards = []
    for shard in range(config.num_shards):
        source, output = folder / f"p{shard}.h5", folder / "rollouts" / f"{shard:05d}.h5"
        first, stop = config.shard_range(shard)
        policies.run(config, first, stop, source)
        rollouts.run(config, source, output)
        shards.append(output)
    dataset.run(config, folder / "rollouts", folder / "dataset.h5", folder / "meta.json")
    return config, folder


def test_the_defaults_are_gym_pushts():
    assert factors_of(settings({}), 5) == USUAL
    fixed = settings({"block_scale": [1.5, 1.5]})
    assert factors_of(fixed, 5) == USUAL._replace(block_scale=1.5)
    assert FACTORS not in sample_policies(settings({}), 0, 1)


def test_a_scene_depends_on_the_seed_and_the_trajectory_alone(made):
    config, folder = made
    held = [store.read(folder / f"p{shard}.h5", "policies") for shard in (0, 1)]
    factors = np.concatenate([each[FACTORS] for each in held])
    for name, values in sample_policies(config, 7, 15).items():
        stored = np.concatenate([each[name] for each in held])
        np.testing.assert_array_equal(values, stored[7:15], err_msg=name)
    low, high = factors.min(axis=0), factors.max(axis=0)
    assert (low[[0, 1, 2, 4]] < high[[0, 1, 2, 4]]).all()
    np.testing.assert_array_equal(factors[:, [3, 5, 6]], [[256.0, 20.0, 490.0]] * COUNT)
    assert Factors.from_vector(factors[3]) == factors_of(config, 3)


def test_rollouts_are_those_of_an_altered_gym_pusht(made):
    _, folder = made
    arrays = store.read(folder / "rollouts" / "00000.h5", "rollouts")
    moved = 0
    for row in range(len(arrays["length"])):
        factors = in_row(arrays, row)
        env, state = altered(factors), arrays["initial_state"][row]
        env.reset(seed=int(arrays["seed"][row]))
        if not arrays["from_reset"][row]:
            env._setup()
            env.agent.position = tuple(state[STATE.agent])
            env.agent.velocity = tuple(state[STATE.velocity])
            env.block.angle = state[STATE.angle]
            env.block.position = tuple(state[STATE.block_position])
        for step, action in enumerate(arrays["actions"][row, : arrays["length"][row]]):
            observation, *_, info = env.step(action)
            np.testing.assert_array_equal(
                arrays["observations"][row, step + 1], observation.astype(np.float32)
            )
            assert abs(arrays["coverage"][row, step] - info["coverage"]) < 1e-6
        moved += (arrays["observations"][row, 0, 2:4] != observation[2:4]).any()
    assert moved > 4


def test_mid_task_starts_overlap_nothing():
    config = settings({"block_scale": [0.3, 1.9], "agent_radius": [2.0, 40.0]})
    arrays = sample_policies(config, 0, COUNT)
    for row in np.flatnonzero(~arrays["from_reset"]).tolist():
        env = altered(in_row(arrays, row))
        env._setup()
        state = arrays["initial_state"][row]
        env.agent.position = tuple(state[STATE.agent])
        env.block.angle = state[STATE.angle]
        env.block.position = tuple(state[STATE.block_position])
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)
        for _ in range(3):
            env.space.step(env.dt)
        np.testing.assert_allclose(env.block.position, state[STATE.block_position], atol=1e-5)


@pytest.mark.parametrize("per_file", [0, COUNT // 2])
def test_a_data_set_keeps_the_scenes_and_replays(made, per_file, tmp_path):
    _, folder = made
    data = folder / "dataset.h5"
    if per_file:
        divided = settings(SCENE, dataset={"trajectories_per_file": per_file})
        data = tmp_path / "dataset.h5"
        dataset.run(divided, folder / "rollouts", data, tmp_path / "meta.json")
    replay([data, folder / "rollouts" / "00001.h5"]).require_no_difference()
    with store.reading(data, "dataset") as file:
        assert file[FACTORS].shape == (COUNT, 7)
        frames = list(replayed(one_trajectory(data, file, COUNT - 1), "one"))
        assert len(frames) == file["length"][...][COUNT - 1] + 1
    for call in (lambda: load_trajectories(data, 0, 7), lambda: load_test_split(data)):
        with pytest.raises(UserError, match="expected gym-pusht's block_scale in all"):
            call()
    with store.reading(data, "dataset") as file, pytest.raises(UserError, match="formats' readers"):
        chosen_from(data, file, ExportConfig()).__enter__()


def test_the_picture_has_each_block_and_goal_in_its_own_size_and_place(made):
    _, folder = made
    with store.reading(folder / "dataset.h5", "dataset") as file:
        summary = summarise(file)
    _, axis, *_ = picture(summary).axes
    drawn = [patch for patch in axis.patches if isinstance(patch, Polygon)]
    goals = [patch for patch in drawn if patch.get_facecolor()[:3] == to_rgb(GOAL)]
    starts = [patch for patch in drawn if not patch.get_fill()]
    rows = np.linspace(0, COUNT - 1, len(starts)).astype(int)
    for row, goal, start in zip(rows, goals, starts, strict=True):
        own = summary.sample.factors[row]
        assert own == factors_of(made[0], int(row))
        pairs = (goal, own.goal), (start, summary.sample.block[row][0])
        for patch, pose in pairs:
            np.testing.assert_array_equal(patch.get_xy()[:-1], t_outline(pose, own.block_scale))


def test_a_prediction_is_shown_at_the_goal_of_its_trajectory(tmp_path):
    """Models know other goals, so such data have videos of predictions."""
    config = settings({"goal_x": [140.0, 160.0], "goal_degrees": [-90.0, -60.0]})
    folder = simulated(
        tmp_path, sample_policies(config, 0, COUNT), config.model_copy(update={"shard_size": COUNT})
    )
    with store.reading(folder / "dataset.h5", "dataset") as file:
        trajectory = held_out_trajectory(folder / "dataset.h5", file, 0)
    factors = factors_of(config, int(trajectory["trajectory"][0]))
    assert in_row(trajectory, 0) == factors
    state = trajectory["initial_state"]
    shown = next(predicted(trajectory, state, state[:, None]))
    simulator = Simulator(factors)
    simulator.enter(state[0])
    # But for the caption above, and the desired path.
    differs = (shown != simulator.render()).any(axis=-1)[40:]
    assert differs.mean() < 0.05


def test_stages_with_models_refuse_other_scenes_at_once(tmp_path):
    stamps = Stamps(settings(SCENE), tmp_path)
    assert stamps.of(STAGES["dataset"])
    for name in ("train", "ensembles", "evaluate"):
        with pytest.raises(UserError, match="ask for results/dataset"):
            stamps.of(STAGES[name])
    other_goals = Stamps(settings({"goal_x": [220.0, 300.0]}), tmp_path)
    assert other_goals.of(STAGES["train"])
    # Before the data are made: the export would refuse them.
    with pytest.raises(UserError, match="are not exported"):
        other_goals.of(STAGES["export"], chosen="--frames 0")


def test_a_file_that_lacks_factors_is_refused(made, tmp_path):
    config, folder = made
    arrays = store.read(folder / "p0.h5", "policies")
    with pytest.raises(ValueError, match="expected F = 7"):
        store.write(tmp_path / "p.h5", "policies", arrays | {FACTORS: np.ones((12, 6))}, {})
    with pytest.raises(FileError, match="policies"):
        rollouts.run(settings({}), folder / "p0.h5", tmp_path / "r.h5")
    assert simulate(config, arrays)[FACTORS] is arrays[FACTORS]
    assert SceneConfig().is_usual
