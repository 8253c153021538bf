"""What a model believes of a policy, and how far that is from the simulator."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from nsf_pipeline.config import PolicyFile
from nsf_pipeline.data.policy_file import params_of, start_of
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.metrics import GROUPS, crps
from nsf_pipeline.explorer.simulated import MEMBERS, Law
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.states import in_layout


class Belief(NamedTuple):
    """Draws of the state at one time.

    Attributes:
        name: whose they are.
        draws: (n, dim) px, px/s, rad, rad/s.
        seconds: s; how long it took to draw them.
    """

    name: str
    draws: np.ndarray
    seconds: float


def believed(name: str, path: Path, models: "Models", file: PolicyFile, time_s: float) -> Belief:
    """A model's draws, in one pass.

    Args:
        name: of the model.
        path: its file.
        models: the models.
        file: where it starts, and the policy.
        time_s: s since the policy started.

    Raises:
        UserError: one line: the model cannot be read, or its DMPs have other settings than this
            policy.
    """
    model = models[path]
    require_same_dmps(path, model, file)
    start = in_layout(start_of(file), model.encoder.layout)
    condition = params_of(file.policy).as_vector()

    def draw() -> np.ndarray:
        given = (jax.random.key(0), start, 0.0, time_s, condition)
        return np.asarray(model.sample(*given, num_samples=MEMBERS), np.float64)

    if path not in models.compiled:
        draw()
        models.compiled.add(path)
    started = time.perf_counter()
    draws = draw()
    return Belief(name, draws, time.perf_counter() - started)


def require_same_dmps(path: Path, model: PushTModel, file: PolicyFile) -> None:
    """Check that a model was trained on DMPs with the settings of a policy.

    Raises:
        UserError: it was not.
    """
    trained, here = dict(model.encoder.dmp), dict(file.dmp)
    for name, value in trained.items():
        if here[name] != value:
            raise UserError(
                f"{path}: this model was trained on DMPs with {name} = {_yaml(value)}, here it is "
                f"{_yaml(here[name])}; change it back, or choose another model"
            )


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Models:
    """The models that were read, each once.

    Attributes:
        compiled: those that have drawn before; the first time takes seconds longer.
    """

    def __init__(self) -> None:
        self._read: dict[Path, PushTModel] = {}
        self.compiled: set[Path] = set()

    def __getitem__(self, path: Path) -> PushTModel:
        """The model of a file.

        Raises:
            ModelFileError: one line: what is wrong with the file.
        """
        if path not in self._read:
            self._read[path] = load_model(path)
        return self._read[path]


class Score(NamedTuple):
    """How far draws are from the simulator.

    Attributes:
        name: whose draws.
        crps: by the group's name, with its unit.
        seconds: s; how long the draws took.
    """

    name: str
    crps: dict[str, float]
    seconds: float


def scores(beliefs: Sequence[Belief], law: Law) -> list[Score]:
    """The CRPS of the simulator's ensemble and of models, means over what else happened there."""
    simulator = Belief("simulator", law.members, law.seconds)
    return [_score(belief, law.truths) for belief in (simulator, *beliefs)]


def _score(belief: Belief, truths: np.ndarray) -> Score:
    found = {}
    for name, group in GROUPS.items():
        truth, draws = group.of(truths), group.of(belief.draws)
        repeated = np.broadcast_to(draws, (len(truth), *draws.shape))
        found[f"{name} ({group.unit})"] = float(crps(repeated, truth).mean())
    return Score(belief.name, found, belief.seconds)
