"""Training that is killed, stopped, damaged or fed from the disk ends in the same model."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml
from conftest import ROOT, flip, merged, run, run_verb

SETTINGS = {
    "num_trajectories": 60,
    "shard_size": 60,
    # Without the nominal push, which takes long to compile.
    "model": {
        "autonomous": True,
        "path_points": 1,
        "flow": {"hidden_size": 32, "depth": 1, "num_flow_layers": 1},
        "bridge": {"hidden_size": 16, "depth": 1, "num_flow_layers": 1},
    },
    "training": {
        "steps": 750,
        "batch_size": 256,
        "warmup_steps": 50,
        "validate_every": 150,
        "validation_size": 512,
        # Without the losses that take long to compile; tests/unit/test_training.py has them.
        "one_to_two_weight": 0.0,
        "two_to_one_weight": 0.0,
    },
    "runtime": {"checkpoint_seconds": 0},
    "wandb": {"mode": "disabled"},
}
BRIEF = {
    "steps": 4,
    "batch_size": 64,
    "warmup_steps": 1,
    "validate_every": 2,
    "validation_size": 64,
}
"""Training for tests that are not about its steps; compiled once, because all use the same."""
KILLS = 4
PROMPT = 10.0
"""s within which SIGTERM must have ended training."""


class Training:
    """The verb `train`, in its own folder, on a data set that all share."""

    def __init__(self, folder, dataset, **changes):
        self.folder, self.dataset = folder, dataset
        self.settings = folder / "settings.yaml"
        defaults = yaml.safe_load((ROOT / "config.yaml").read_text())
        settings = merged(merged(defaults, SETTINGS), changes)
        self.settings.write_text(yaml.safe_dump(settings))
        self.model = folder / "results/model.eqx"
        self.metrics = folder / "results/training/metrics.csv"
        self.took = 0.0  # s until it was stopped

    def start(self, *options, **environment):
        command = [sys.executable, "-m", "nsf_pipeline", "train", "--config", self.settings]
        command += ["--dataset", self.dataset, *options]
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *options):
        process = self.start(*options)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        return printed

    def checkpoints(self):
        return sorted(self.folder.glob("results/training/checkpoints/*/*.checkpoint"))

    def stopped_at_work(self):
        """Stop it by SIGTERM after two checkpoints; returns what it printed."""
        started = time.monotonic()
        process = self.start()
        while len(self.checkpoints()) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        asked = time.monotonic()
        self.took = asked - started
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate()
        assert process.returncode == 143, printed
        assert time.monotonic() - asked < PROMPT
        assert not self.model.exists()
        return printed


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with a data set."""
    folder = tmp_path_factory.mktemp("survival")
    training = Training(folder, folder / "results/dataset.h5")
    done = run_verb("generate-data", "--config", training.settings, "--output", folder / "results")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def undisturbed(shared):
    training = Training(shared, shared / "results/dataset.h5")
    training.finish()
    return training


@pytest.fixture
def training(undisturbed, tmp_path):
    return Training(tmp_path, undisturbed.dataset)


@pytest.fixture(scope="module")
def stopped(undisturbed, tmp_path_factory):
    """A training that was stopped, and what it printed; tests must not change its folder."""
    training = Training(tmp_path_factory.mktemp("stopped"), undisturbed.dataset)
    return training, training.stopped_at_work()


@pytest.fixture
def halfway(stopped, training):
    """A copy of the stopped training, to be continued."""
    shutil.copytree(stopped[0].metrics.parent, training.metrics.parent)
    return training


def history(training):
    """The metrics without the times."""
    return pd.read_csv(training.metrics).drop(columns="seconds")


def assert_same(training, undisturbed):
    assert training.model.read_bytes() == undisturbed.model.read_bytes()
    pd.testing.assert_frame_equal(history(training), history(undisturbed), check_exact=True)
    assert pd.read_csv(training.metrics)["seconds"].is_monotonic_increasing


def test_killed_again_and_again_it_ends_with_the_same_bits(undisturbed, stopped, training):
    """SIGKILL at any moment: importing, loading, stepping, validating, writing."""
    moments = random.Random()  # others each time; a failure prints which
    most = stopped[0].took
    kills, told, steps = 0, [], set()
    while kills < KILLS:
        process = training.start()
        if kills % 2:  # at work: some time after its next checkpoint
            before = training.checkpoints()
            while training.checkpoints() == before and process.poll() is None:
                time.sleep(0.02)
        told.append(moments.uniform(0.0, 1.0) if kills % 2 else moments.uniform(0.1, 1.0) * most)
        try:
            printed, _ = process.communicate(timeout=told[-1])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            steps |= {path.name for path in training.checkpoints()}
        else:  # it got to its end: begin again
            assert process.returncode == 0, printed
            assert_same(training, undisturbed)
            shutil.rmtree(training.folder / "results")
        assert len(training.checkpoints()) <= 3  # two, and the next before the last is removed
    assert len(steps) > 1, (told, "no run was killed at work")
    training.finish()
    assert_same(training, undisturbed)
    left = {path.suffix for path in (training.folder / "results").rglob("*") if path.is_file()}
    assert left == {".eqx", ".csv", ".png", ".checkpoint"}  # and no temporary file


def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on(undisturbed, stopped, halfway):
    _, printed = stopped
    *_, newest = halfway.checkpoints()
    step = int(newest.stem)
    assert printed.splitlines()[-1] == f"nsf_pipeline: stopped at step {step} of 750"
    printed = halfway.finish()
    assert f"going on from step {step}: " in printed
    assert_same(halfway, undisturbed)


@pytest.mark.thorough
def test_a_closed_terminal_leaves_a_checkpoint_too(training):
    """Its hangup comes when the process that reads the output is gone; the code stays."""
    process = training.start()
    while not training.checkpoints():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    before = int(training.checkpoints()[-1].stem)
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(PROMPT) == 129
    assert int(training.checkpoints()[-1].stem) >= before
    assert not training.model.exists()
    assert no_temporary_files(training)


@pytest.mark.thorough
def test_sigterm_while_compiling_is_obeyed_in_time(training):
    path = training.settings
    weights = {"one_to_two_weight": 0.03, "two_to_one_weight": 0.03}
    changes = {"model": {"autonomous": False}, "training": weights}
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes)))
    process = training.start(JAX_ENABLE_COMPILATION_CACHE="false")
    assert "starts, in memory" in process.stdout.readline()
    time.sleep(1.0)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    assert process.returncode == 143, printed
    assert time.monotonic() - asked < PROMPT
    assert not training.model.exists()


@pytest.mark.thorough
def test_two_trainings_at_once_end_with_the_same_model(undisturbed, training):
    """As after a kill of Snakemake alone, or where each machine keeps its own locks."""
    processes = [training.start() for _ in range(2)]
    for process in processes:
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        assert "not a sound checkpoint" not in printed
        assert "training goes on without this checkpoint" not in printed
    assert_same(training, undisturbed)
    assert no_temporary_files(training)


@pytest.mark.thorough
def test_a_training_that_stands_still_and_one_that_overtakes_it(undisturbed, training):
    first = training.start()
    while not training.checkpoints():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    assert "going on from step " in training.finish()
    assert_same(training, undisturbed)
    first.send_signal(signal.SIGCONT)
    printed, _ = first.communicate()
    assert first.returncode == 0, printed
    assert_same(training, undisturbed)
    assert training.checkpoints()[-1].stem == "0000000750"
    assert no_temporary_files(training)


def no_temporary_files(training):
    return not [path for path in training.folder.rglob("*") if path.name.startswith(".")]


def test_a_damaged_checkpoint_is_passed_over(undisturbed, halfway):
    before, newest = halfway.checkpoints()[-2:]
    flip(newest)
    printed = halfway.finish()
    assert f"{newest.relative_to(halfway.folder)}: not a sound checkpoint: " in printed
    assert f"going on from step {int(before.stem)}: " in printed
    assert_same(halfway, undisturbed)


@pytest.mark.thorough
def test_without_a_sound_checkpoint_it_starts_afresh(undisturbed, halfway):
    for path in halfway.checkpoints():
        path.write_bytes(path.read_bytes()[:1000])
    printed = halfway.finish()
    assert printed.count("truncated or damaged") == 2
    assert "going on" not in printed
    assert_same(halfway, undisturbed)


@pytest.mark.thorough
def test_a_lost_model_comes_back_from_the_last_checkpoint(undisturbed, training):
    shutil.copytree(undisturbed.folder / "results/training", training.metrics.parent)
    training.metrics.unlink()
    printed = training.finish()
    assert "going on from step 750: " in printed
    assert "nll" not in printed.partition("best at")[0]  # no step was made again
    assert_same(training, undisturbed)


@pytest.mark.thorough
def test_other_settings_start_afresh_and_say_so(undisturbed, tmp_path):
    changes = {"training": {"learning_rate": 0.003}}
    training = Training(tmp_path, undisturbed.dataset, **changes)
    shutil.copytree(undisturbed.folder / "results/training", training.metrics.parent)
    process = training.start()
    assert "starts, in memory" in process.stdout.readline()
    line = "settings, data, code or versions changed since the last checkpoint: starting afresh\n"
    assert process.stdout.readline() == line
    process.kill()
    process.communicate()


@pytest.mark.thorough
def test_data_streamed_from_the_disk_give_the_same_model(undisturbed, training):
    printed = training.finish("--data-memory", "0", "--checkpoint-seconds", "300")
    assert "starts, streamed from the file" in printed
    assert_same(training, undisturbed)


@pytest.mark.thorough
def test_a_divergence_names_step_term_and_checkpoint_and_writes_no_model(undisturbed, tmp_path):
    wild = {"learning_rate": 1.0, "clip_ratio": 1e30, "warmup_steps": 0, "validate_every": 20}
    training = Training(tmp_path, undisturbed.dataset, training=wild)
    process = training.start()
    printed, _ = process.communicate()
    assert process.returncode == 1
    line = printed.splitlines()[-1]
    assert line.startswith("nsf_pipeline: step ")
    assert "nll" in line
    assert "last good checkpoint: " in line
    assert line.endswith("lower training.learning_rate or training.clip_ratio")
    assert not training.model.exists()
    assert not training.metrics.exists()


def test_a_full_disk_loses_a_checkpoint_and_no_more(undisturbed, training):
    """Checkpoints are larger than a file may be: training continues without them."""
    size = undisturbed.model.stat().st_size
    limit = 2 * size // 1024  # a checkpoint holds the parameters four times
    command = f"ulimit -f {limit}; exec {sys.executable} -m nsf_pipeline train "
    command += f"--config {training.settings} --dataset {training.dataset} "
    command += f"--output {training.model} --metrics {training.metrics} "
    command += f"--curves {os.devnull}x/curves.png"
    done = run("bash", "-c", command)
    assert "training goes on without this checkpoint" in done.stdout
    assert "nll" in done.stdout
    assert training.checkpoints() == []
