"""Videos of planned episodes: which are chosen, and that they show what was played."""

import imageio_ffmpeg
import numpy as np
import pytest

from nsf_pipeline import label
from nsf_pipeline.config import Config, ProtocolConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.schema import NEVER
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError
from nsf_pipeline.paths import HARDEST, SUCCESSES, shard_in
from nsf_pipeline.protocols import rows
from nsf_pipeline.protocols.episodes import Decision, Rules, play
from nsf_pipeline.protocols.rows import Row
from nsf_pipeline.protocols.videos import OF_SUCCESSES, Shown, choose, frames
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.pusht.video import PREDICTED
from nsf_pipeline.stages import STAGES, episode_videos, pages
from nsf_pipeline.why import fields_of

SEED, STEPS, COUNT = 100_000, 30, 4
OTHER = Row("cem", "flow_4", 0.0)
CONFIG = Config(protocols=ProtocolConfig(episodes=COUNT, shard_size=COUNT, models=("flow",)))


def push(situations):
    """A planner that pushes the block and predicts that it ends up 60 px farther to the right."""
    found = []
    for each in situations:
        targets = np.linspace(each.state[STATE.agent], each.state[STATE.block_position], 12)[1:]
        predicted = each.state[STATE.block] + [60.0, 0.0, 0.0]
        found.append(Decision(targets, predicted, 1))
    return found


@pytest.fixture(scope="module")
def arrays():
    """Short episodes, of which none succeeds."""
    rules = Rules(action_noise_std=8.0, steps=STEPS)
    found, _ = play(push, rules, 0, SEED, 0, COUNT)
    assert (found["first_step"] == NEVER).all()
    return found


def outcomes(first, greatest):
    """Arrays of episodes of which only this matters: the step of success, the greatest coverage."""
    count = len(first)
    return {
        "episode": np.arange(count),
        "seed": SEED + np.arange(count),
        "first_step": np.array([[step, *3 * [NEVER]] for step in first], np.int32),
        "coverage": np.array([[0.0, covered, 0.1] for covered in greatest]),
    }


FEW = outcomes([NEVER, 90, 20, 50, NEVER, 70], [0.94, 0.96, 0.98, 0.999, 0.2, 0.97])
BAD = outcomes([NEVER, NEVER, 10], [0.5, 0.2, 0.96])
GOOD = outcomes([40, 30, 20], [0.99, 0.97, 0.98])
# Rows' arrays; the row and number of each episode that is chosen; how the first title starts, and
# the first of the hardest.
CHOICES = {
    "successes and failures": (
        [(OTHER, BAD), (OF_SUCCESSES, FEW)],
        [2, 3, 1],
        [(OTHER, 1), (OF_SUCCESSES, 4), (OTHER, 0)],
        "The fastest of 4 successes in 6 episodes. contact, flow_4, 8 px of action noise, "
        "episode 2 (seed 100002): coverage 98.0% at most, above 0.95 after 20 steps",
        "The hardest of 9 episodes, of which 4 never exceeded 0.95. cem, flow_4, 0 px of action "
        "noise, episode 1 (seed 100001): coverage 20.0% at most",
    ),
    "no failure": (
        [(OF_SUCCESSES, GOOD)],
        [2, 1, 0],
        [(OF_SUCCESSES, 1), (OF_SUCCESSES, 2), (OF_SUCCESSES, 0)],
        "The fastest of 3 successes in 3 episodes.",
        "The hardest of 3 episodes, of which 0 never exceeded 0.95.",
    ),
    "no success": (
        [(OF_SUCCESSES, outcomes(4 * [NEVER], [0.2, 0.5, 0.9, 0.1])), (OTHER, GOOD)],
        [2, 2, 2],
        [(OF_SUCCESSES, 3), (OF_SUCCESSES, 0), (OF_SUCCESSES, 1)],
        "None of 4 episodes is a success; this one came closest. contact, flow_4, ",
        "The hardest of 7 episodes, of which 4 never exceeded 0.95.",
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_episodes_that_are_shown(case):
    played, successes, hardest, *titles = CHOICES[case]
    found = choose(played)
    assert [*found] == [*SUCCESSES, *HARDEST]
    chosen = [(each.row, int(each.arrays["episode"])) for each in found.values()]
    assert chosen == [*((OF_SUCCESSES, number) for number in successes), *hardest]
    assert found["success_fastest"].title.startswith(titles[0])
    assert found["hardest_1"].title.startswith(titles[1])


def test_frames_show_the_episode_and_what_was_predicted(arrays):
    """The scenes are those of the stored poses, and the outline is drawn where nothing else is."""
    own = {name: values[0] for name, values in arrays.items()}
    shown = list(frames(Shown("", OF_SUCCESSES, own)))
    assert len(shown) == own["length"] + 1 == STEPS + 1
    assert {(frame.shape, frame.dtype) for frame in shown} == {((512, 512, 3), np.dtype(np.uint8))}
    simulator = Simulator()
    simulator.reset(int(own["seed"]))
    elsewhere = own | {"predicted": own["predicted"] - [20.0, 20.0, 0.5]}
    others = frames(Shown("", OF_SUCCESSES, elsewhere))
    for step, (frame, other) in enumerate(zip(shown, others, strict=True)):
        if step:
            simulator.step(own["actions"][step - 1].astype(float))
            pose = simulator.state()[STATE.block]
            np.testing.assert_array_equal(pose, own["block_pose"][step - 1])
        off = np.abs(frame.astype(int) - simulator.render()).mean(axis=-1)
        off[:50] = 0  # the caption
        assert 0 < np.mean(off > 30) < 0.02, step
        assert (frame != other).any(), step
    orange = np.abs(shown[0].astype(int) - PREDICTED).sum(axis=-1) < 150
    assert orange.sum() > 200


@pytest.fixture(scope="module")
def played(arrays, tmp_path_factory):
    """The shards of the flow's rows, with the short episodes in each."""
    folder = tmp_path_factory.mktemp("episodes")
    made = Record.new(STAGES["episodes"], CONFIG).fields()
    full = {
        name: np.pad(
            values,
            [(0, 0), (0, 300 - STEPS), *(values.ndim - 2) * [(0, 0)]],
            constant_values=NEVER if name == "push" else 0,
        )
        if values.shape[1:2] == (STEPS,)
        else values
        for name, values in arrays.items()
    }
    for row in rows.standard(CONFIG.protocols):
        attributes = made | {"first": 0, "stop": COUNT, "row": row.described()}
        store.write(shard_in(folder / row.name, 0), "episodes", full, attributes)
    return folder


def test_the_stage_writes_a_video_of_each_and_their_page_says_what_they_show(played, tmp_path):
    episode_videos.run(CONFIG, played, tmp_path / "videos")
    videos = [tmp_path / f"videos/{name}.mp4" for name in (*SUCCESSES, *HARDEST)]
    assert sorted((tmp_path / "videos").iterdir()) == sorted(videos)
    assert imageio_ffmpeg.count_frames_and_secs(videos[0])[0] == STEPS + 1
    fields = fields_of(videos[0])
    assert Record.read(fields).changes(CONFIG) == []
    other = CONFIG.model_copy(update={"seed": 1})
    assert Record.read(fields).changes(other) == ["seed was 0, is 1"]
    pages.videos(CONFIG, videos, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<video ") == 6
    assert f"<figcaption>{fields['title']}</figcaption>" in page
    assert fields["title"].startswith("None of 4 episodes is a success; ")
    assert label.find((tmp_path / "page.html").read_bytes())["stage"] == "video_page"


REFUSED = {
    "no flow": (
        ProtocolConfig(models=("nominal",)),
        UserError,
        "protocols.models: expected flow among them, whose episodes the videos show; add it",
    ),
    "more episodes than were played": (
        ProtocolConfig(episodes=COUNT + 1, models=("flow",)),
        FileError,
        "00000.h5: expected episodes 0 to 4 of contact-flow_4-noise0, got others; ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_is_refused(case, played, tmp_path):
    protocols, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        episode_videos.run(Config(protocols=protocols), played, tmp_path / "videos")
    assert not list(tmp_path.iterdir())
