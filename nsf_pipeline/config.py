"""Every setting: its type, unit, range and default, in one place.

`config.yaml` shows the same settings with the same defaults, and `workflow/schemas/` holds the JSON
schema generated from these types; a test keeps the three in step.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from nsf_pipeline.errors import UserError
from nsf_pipeline.timing import CONTROL_DT, num_steps

STAMP = ".stamp.json"
"""End of the name of a file with the settings of one stage, as the workflow gives them."""
MAX_SHARDS = 100_000
"""What five digits can name."""
MAX_SHARD_SIZE = 100_000
"""Trajectories that one job can hold in memory."""
MAX_DRAWN = 2
"""GiB of predicted or simulated states that the evaluation holds; it needs some times as much."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, out of range or contradicts another."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]} exceeds the upper bound {bounds[1]}")
    return bounds


Pixel = Annotated[float, Field(ge=0.0, le=512.0)]
PixelRange = Annotated[tuple[Pixel, Pixel], AfterValidator(_ordered)]
Width = Annotated[int, Field(ge=1, le=4096)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Duration = Annotated[float, Field(ge=0.1, le=60.0)]
Weight = Annotated[float, Field(ge=-100.0, le=100.0)]
Stiffness = Annotated[float, Field(ge=1.0, le=10_000.0)]
DampingRatio = Annotated[float, Field(gt=0.0, le=20.0)]
Activation = Literal["silu", "tanh", "gelu", "softplus"]
ScaleFunction = Literal["tanh_exp", "exp", "softplus"]
Rank = Literal["best", "median", "worst"]
Coupling = Literal["affine", "spline"]
Kind = Literal["flow", "neural_sde"]


class Section(BaseModel):
    """Frozen, and refuses what it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DMPConfig(Section):
    """What every Dynamic Movement Primitive shares."""

    n_basis: int = Field(default=6, ge=2, le=64)
    """Radial basis functions per coordinate."""
    phase_decay: float = Field(default=4.0, gt=0.0, le=20.0)
    """Decay of the phase over one duration: it ends at exp(-phase_decay)."""
    scale_forcing_by_goal_delta: bool = True
    """Forcing stretched by goal - start, coordinate by coordinate; false: by 256 px."""
    workspace: PixelRange = (25.0, 487.0)
    """px; desired positions are held inside this square."""
    integration_steps: int = Field(default=32, ge=8, le=4096)
    """Steps of the integration over one duration."""


class PolicyConfig(Section):
    """What differs from trajectory to trajectory, and is sampled."""

    mid_task_fraction: Fraction = 0.5
    """Share of trajectories that start in mid-task: block anywhere, agent beside it, touching it
    or away, moving or not. The others start from the environment's reset."""
    duration: Annotated[tuple[Duration, Duration], AfterValidator(_ordered)] = (1.0, 3.6)
    """s; sampled uniformly."""
    goal_x: PixelRange = (40.0, 472.0)
    """px; range of goals."""
    goal_y: PixelRange = (40.0, 472.0)
    """px; range of goals."""
    contact_fraction: Fraction = 0.7
    """Share of goals drawn through or beyond the block; the others are uniform."""
    weights: Annotated[tuple[Weight, Weight], AfterValidator(_ordered)] = (-1.0, 1.0)
    """Forcing weights; in units of the forcing's scale, sampled uniformly."""
    stiffness: Annotated[tuple[Stiffness, Stiffness], AfterValidator(_ordered)] = (50.0, 50.0)
    """K, in 1/duration^2; sampled uniformly. Small ones spread the motion over the duration."""
    damping_ratio: Annotated[tuple[DampingRatio, DampingRatio], AfterValidator(_ordered)] = (
        1.0,
        1.0,
    )
    """D / (2 sqrt(K)); 1 is critical damping."""


class SimulationConfig(Section):
    """How policies are run in gym-pusht."""

    action_noise_std: float = Field(default=8.0, ge=0.0, le=256.0)
    """px; independent Gaussian noise on each commanded target. 0: deterministic."""


class DatasetConfig(Section):
    """How trajectories are divided."""

    validation_fraction: Share = 0.1
    """Share of trajectories for model selection."""
    test_fraction: Share = 0.1
    """Share of trajectories for the evaluation alone."""

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "DatasetConfig":
        held_out = self.validation_fraction + self.test_fraction
        if held_out >= 1.0:
            raise ValueError(
                f"validation_fraction + test_fraction = {held_out:g} leaves nothing to train on; "
                "make their sum less than 1"
            )
        return self


class NetworkConfig(Section):
    """The networks of a flow."""

    hidden_size: Width = 128
    """Units per hidden layer."""
    depth: int = Field(default=2, ge=1, le=16)
    """Hidden layers per network."""
    num_flow_layers: int = Field(default=3, ge=0, le=64)
    """Couplings; 0 leaves a Gaussian."""
    activation: Activation = "silu"
    """Of the hidden layers."""
    scale_function: ScaleFunction = "tanh_exp"
    """How couplings turn a network's output into a positive scale."""
    coupling: Coupling = "spline"
    """spline: couplings of any monotone shape. affine: the paper's, cheaper one by one."""
    num_bins: int = Field(default=8, ge=1, le=64)
    """Pieces of a spline coupling."""


class BridgeConfig(NetworkConfig):
    """The networks of the bridge: smaller."""

    hidden_size: Width = 64
    """Units per hidden layer."""
    num_flow_layers: int = Field(default=2, ge=0, le=64)
    """Couplings; 0 leaves a Gaussian."""
    coupling: Coupling = "affine"
    """spline: couplings of any monotone shape. affine: the paper's, cheaper one by one."""


class ModelConfig(Section):
    """The PushT model."""

    kind: Kind = "flow"
    """neural_sde: drift and diffusion networks and a solver, which flows replace; as a rival."""
    state_dim: Literal[5, 7] = 7
    """7: agent position and velocity, block pose. 5: without the velocity (not Markov)."""
    conditional: bool = True
    """false: the networks see neither the policy nor what follows from it; as a floor."""
    autonomous: bool = False
    """true: the law depends on t - s alone, although the DMP runs on its own clock."""
    path_points: int = Field(default=24, ge=1, le=256)
    """Points of the nominal path that the networks see."""
    flow: NetworkConfig = NetworkConfig()
    """The transition p(x_t | x_s); of a neural SDE, drift and diffusion each, without couplings."""
    bridge: BridgeConfig = BridgeConfig()
    """The bridge b(x_m | x_s, x_t); used in training only."""


class WandbConfig(Section):
    """Logging to Weights & Biases; `results/training/metrics.csv` is the record either way."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """The environment variable WANDB_MODE, where set, wins."""
    project: str = Field(default="nsf-pusht", min_length=1)
    """Project that runs are logged under."""


class TrainingConfig(Section):
    """Optimisation."""

    steps: int = Field(default=16_000, ge=1, le=1_000_000_000)
    """Optimisation steps."""
    batch_size: int = Field(default=512, ge=1)
    """Transitions per step."""
    max_gap: float = Field(default=3.6, ge=CONTROL_DT)
    """s; longest t - s that is trained on."""
    block_blur: float = Field(default=0.5, ge=0.0, le=100.0)
    """px per root second; Brownian motion added to the block, which gives its law a density."""
    learning_rate: float = Field(default=4e-3, gt=0.0, le=1.0)
    """Peak rate of Adam."""
    final_learning_rate: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of the peak rate that the cosine decay ends at."""
    warmup_steps: int = Field(default=500, ge=0)
    """Steps of linear warm-up."""
    clip_norm: float = Field(default=1.0, gt=0.0)
    """The likelihood's gradient is clipped to this global norm, the others' to their share."""
    one_to_two_weight: float = Field(default=0.03, ge=0.0)
    """Weight of the 1->2 flow-consistency loss."""
    two_to_one_weight: float = Field(default=0.03, ge=0.0)
    """Weight of the 2->1 flow-consistency loss."""
    consistency_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.03125
    """Share of each batch that the consistency losses are estimated on."""
    validate_every: int = Field(default=1000, ge=1)
    """Steps between validations; each writes a row of metrics.csv."""
    validation_size: int = Field(default=16_384, ge=1)
    """Transitions per validation; the same ones each time."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainingConfig":
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} must be less than steps = {self.steps}"
            )
        return self


class TrainingChanges(TrainingConfig):
    """Some training settings; whether they agree is known together with those that they change."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainingChanges":
        return self


class Variant(Section):
    """What a variant of the model changes: settings left out are as above."""

    model: ModelConfig = ModelConfig()
    training: TrainingChanges = TrainingChanges()

    @model_serializer
    def changes(self) -> dict[str, Any]:
        """Only what is changed, by section."""
        given = sorted(self.model_fields_set)
        return {name: getattr(self, name).model_dump(exclude_unset=True) for name in given}


UNTRAINED = (
    *("flow", "simulator", "persistence", "kinematic", "recursive"),
    *("simulator_all_cores", "gym_pusht"),
)
"""What the tables hold besides variants: no variant can have such a name."""


def _variant_name(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name):
        raise ValueError("expected a name of small letters, digits and _")
    if name in UNTRAINED:
        raise ValueError("the tables have a row of that name already; choose another name")
    return name


VariantName = Annotated[str, AfterValidator(_variant_name)]
LIKELIHOOD_ONLY = {"one_to_two_weight": 0.0, "two_to_one_weight": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "gaussian": {"model": {"flow": {"num_flow_layers": 0}}},
    "unconditional": {"model": {"conditional": False}},
    "no_consistency": {"training": LIKELIHOOD_ONLY},
    "autonomous": {"model": {"autonomous": True}},
    "state5": {"model": {"state_dim": 5}},
    "neural_sde": {
        # As many parameters as the flow has.
        "model": {"kind": "neural_sde", "path_points": 3, "flow": {"hidden_size": 254}},
        "training": {"max_gap": CONTROL_DT, **LIKELIHOOD_ONLY},
    },
}


def _default_variants() -> dict[VariantName, Variant | None]:
    return {name: Variant(**changes) for name, changes in VARIANTS.items()}


class RuntimeConfig(Section):
    """How training runs; nothing here changes what comes out, or makes a model stale."""

    checkpoint_seconds: int = Field(default=300, ge=0)
    """s between checkpoints; 0: about every second."""
    data_memory: int = Field(default=2048, ge=0, le=1 << 40)
    """MiB; larger data are streamed from the disk instead of held on the device."""


class EnsembleConfig(Section):
    """The simulator's own law, which predictions are held against."""

    horizons: Annotated[tuple[Annotated[float, Field(ge=CONTROL_DT)], ...], Field(min_length=1)] = (
        0.1,
        0.5,
        1.0,
        2.0,
    )
    """s; multiples of the control step."""
    num_states: int = Field(default=2000, ge=10, le=1_000_000)
    """Test states per horizon, half of them with contact; fewer where the test split has fewer."""
    num_members: int = Field(default=64, ge=4, le=65_536)
    """Members per state: rollouts from it with noise of their own."""
    shard_size: int = Field(default=1000, ge=1, le=MAX_SHARD_SIZE)
    """States per shard: one file and one job each."""

    @model_validator(mode="after")
    def _horizons_are_control_steps(self) -> "EnsembleConfig":
        for horizon in self.horizons:
            if not math.isclose(horizon / CONTROL_DT, round(horizon / CONTROL_DT), abs_tol=1e-6):
                raise ValueError(
                    f"horizons: {horizon:g} s is not a multiple of the control step {CONTROL_DT} s"
                )
        if len({round(horizon / CONTROL_DT) for horizon in self.horizons}) < len(self.horizons):
            raise ValueError(f"horizons: {list(self.horizons)} names one twice")
        return self

    @property
    def num_shards(self) -> int:
        """Shards that hold the states of all horizons."""
        return -(-len(self.horizons) * self.num_states // self.shard_size)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First place of a shard, and one past its last: those of each horizon in turn."""
        first = shard * self.shard_size
        return first, min(first + self.shard_size, len(self.horizons) * self.num_states)


class EvaluationConfig(Section):
    """The comparison with the test split."""

    num_samples: int = Field(default=128, ge=4, le=65_536)
    """Draws per state."""
    num_recursive_samples: int = Field(default=16, ge=4, le=65_536)
    """Draws per state where predictions go one control step at a time, which costs more."""


class SpeedConfig(Section):
    """What a predicted trajectory costs."""

    sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=1)] = (
        1,
        16,
        256,
        4096,
        16_384,
    )
    """Trajectories predicted at once."""
    rounds: int = Field(default=5, ge=1, le=1000)
    """Turns of each side; medians over them are told."""


class VideoConfig(Section):
    """Recordings."""

    trajectories: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=1000)] = (
        0,
        1,
    )
    """Trajectories recorded, by index in the data set."""
    ranked: tuple[Rank, ...] = ("best", "median", "worst")
    """Trajectories recorded, by their place when ranked by last coverage."""
    predicted: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=1000)] = (0, 1)
    """Trajectories shown beside the model's prediction, by place in the test split."""

    @model_validator(mode="after")
    def _names_each_once(self) -> "VideoConfig":
        for name in ("trajectories", "ranked", "predicted"):
            chosen = getattr(self, name)
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{name}: {list(chosen)} names one twice")
        return self


class Config(Section):
    """All settings of a run."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in Config.model_fields:
                raise ConfigError(
                    f"the settings given have no {name}: they are the stamp of another stage; give "
                    "all settings, or this stage's stamp"
                )
            return super().__getattr__(name)

    seed: int = Field(default=0, ge=0, lt=2**63)
    """All randomness follows from it."""
    num_trajectories: int = Field(default=50_000, ge=1)
    """Trajectories to simulate."""
    shard_size: int = Field(default=2500, ge=1, le=MAX_SHARD_SIZE)
    """Trajectories per shard: one file and one job each."""
    dmp: DMPConfig = DMPConfig()
    policies: PolicyConfig = PolicyConfig()
    simulation: SimulationConfig = SimulationConfig()
    dataset: DatasetConfig = DatasetConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    variants: dict[VariantName, Variant | None] = Field(default_factory=_default_variants)
    """Models that differ, trained and compared by `snakemake ablations`: by name, what each
    changes in the sections `model` and `training`. A name with null is left out."""
    ensembles: EnsembleConfig = EnsembleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    speed: SpeedConfig = SpeedConfig()
    videos: VideoConfig = VideoConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    wandb: WandbConfig = WandbConfig()

    @property
    def max_steps(self) -> int:
        """Control steps of the longest trajectory, the padded length T.

        Stages that shape arrays call `num_steps` themselves: this module is hashed by none.
        """
        return num_steps(self.policies.duration[1])

    @property
    def num_shards(self) -> int:
        """Shards that hold all trajectories."""
        return -(-self.num_trajectories // self.shard_size)

    @property
    def variant_names(self) -> list[str]:
        """Those that are not left out."""
        return [name for name, changes in self.variants.items() if changes is not None]

    def variant(self, name: str) -> "Config":
        """All settings of a variant, by its name: these with its changes.

        Raises:
            KeyError: there is no such variant, or it is left out.
            ValidationError: its changes contradict the settings that it leaves as they are.
        """
        changes = self.variants[name]
        if changes is None:
            raise KeyError(name)
        given = changes.model_dump()
        model = _merged(self.model.model_dump(), given.get("model", {}))
        training = _merged(self.training.model_dump(), given.get("training", {}))
        changed = {
            "model": ModelConfig.model_validate(model),
            "training": TrainingConfig.model_validate(training),
        }
        return self.model_copy(update=changed)

    def only(self, *names: str) -> "Config":
        """These settings without the sections that are not named: reading those is an error."""
        view = self.model_copy()
        for name in view.held - set(names):
            del view.__dict__[name]
        return view

    def shard_size_of(self, shard: int) -> int:
        """Trajectories of a shard: the last one may have fewer."""
        first, stop = self.shard_range(shard)
        return stop - first

    @property
    def held(self) -> set[str]:
        """The sections, and single settings, that are here: all but in a view of some."""
        return type(self).model_fields.keys() & self.__dict__.keys()

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First trajectory of a shard, and one past its last."""
        first = shard * self.shard_size
        return first, min(first + self.shard_size, self.num_trajectories)


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed, section by section."""
    both = {**settings, **changes}
    for name in settings.keys() & changes.keys():
        if isinstance(settings[name], Mapping) and isinstance(changes[name], Mapping):
            both[name] = _merged(settings[name], changes[name])
    return both


def parse_config(settings: Mapping[Any, Any], source: str = "config") -> Config:
    """All settings of a run as read from YAML or JSON, checked one by one and together.

    Raises:
        ConfigError: one line, naming the setting, what was expected and what came.
    """
    config = parse_settings(settings, source)
    for contradiction in _contradictions(config):
        raise ConfigError(f"{source}: {contradiction}")
    return config


def parse_settings(settings: Mapping[Any, Any], source: str = "config") -> Config:
    """Some settings, each checked for itself: what shapes one stage, the others being left out.

    Raises:
        ConfigError: one line, naming the setting, what was expected and what came.
    """
    for path in _unnamed(settings):  # JSON would turn them into text
        raise ConfigError(f"{source}: {path}: expected a name; YAML reads it otherwise: quote it")
    if isinstance(settings.get("variants"), Mapping):  # as those of any section, defaults stay
        settings = {**settings, "variants": _merged(VARIANTS, settings["variants"])}
    try:
        return Config.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(map(_describe, error.errors()))) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: not plain settings: {error}") from None


def load_config(source: str | Path) -> Config:
    """Settings from a file in YAML or JSON, from a stamp, or from JSON text.

    A stamp is the workflow's and has what shapes one stage: without the others, reading which is an
    error. Of JSON text, the settings are checked one by one alone.

    Raises:
        ConfigError: one line, naming the file or setting, what was expected and what came.
    """
    text = name = str(source)
    is_text, is_stamp = text.lstrip().startswith("{"), text.endswith(STAMP)
    if is_text:
        name = "--config"
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ConfigError(f"{name}: cannot read the settings: {reason}") from None
    # YAML would read JSON's 1e-05 as text.
    is_json = is_text or name.endswith(".json")
    read: Callable[[str], Any] = json.loads if is_json else yaml.safe_load
    parse = parse_settings if is_text or is_stamp else parse_config
    try:
        settings = read(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        language = "YAML" if isinstance(error, yaml.YAMLError) else "JSON"
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name}: not valid {language}: {reason}") from None
    if settings is None:
        settings = {}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}: expected settings by name, got {type(settings).__name__}")
    config = parse(settings, name)
    # How training runs, and where it is logged to, are no part of what shapes a stage.
    return config.only(*settings, "runtime", "wandb") if is_stamp else config


def _unnamed(settings: Any) -> Iterator[str]:
    """Where a key is no text, as `on` and `~` are none in YAML."""
    pairs = settings.items() if isinstance(settings, Mapping) else ()
    for name, value in pairs:
        if not isinstance(name, str):
            yield json.dumps(name, default=str)
        yield from (f"{name}.{path}" for path in _unnamed(value))


def _contradictions(config: Config) -> Iterator[str]:
    own = list(_own_contradictions(config))
    yield from own
    for name in config.variant_names:
        try:
            found = list(_own_contradictions(config.variant(name)))
        except ValidationError as error:
            found = [_describe(each) for each in error.errors()]
        yield from (f"variants.{name}: {each}" for each in found if each not in own)


def _own_contradictions(config: Config) -> Iterator[str]:
    longest = config.max_steps * CONTROL_DT
    for name, value in [
        ("training.max_gap", config.training.max_gap),
        ("ensembles.horizons", max(config.ensembles.horizons)),
    ]:
        if value > longest + 1e-9:
            yield (
                f"{name} = {value:g} s is longer than any trajectory: policies.duration ends at "
                f"{config.policies.duration[1]:g} s; lower the one or raise the other"
            )
    training = config.training
    if config.model.kind == "neural_sde" and (
        training.max_gap >= 2 * CONTROL_DT
        or training.one_to_two_weight
        or training.two_to_one_weight
    ):
        yield (
            "model.kind = neural_sde has a density over one control step alone: set "
            f"training.max_gap = {CONTROL_DT}, training.one_to_two_weight = 0 and "
            "training.two_to_one_weight = 0"
        )
    held_out = config.dataset.validation_fraction + config.dataset.test_fraction
    shortest = num_steps(config.policies.duration[0])
    transitions = int(config.num_trajectories * (1.0 - held_out) * shortest)
    if config.training.batch_size > transitions:
        yield (
            f"training.batch_size = {config.training.batch_size} is larger than the data: "
            f"num_trajectories = {config.num_trajectories} gives perhaps {transitions} training "
            "transitions; lower the one or raise the other"
        )
    if config.shard_size > config.num_trajectories:
        yield (
            f"shard_size = {config.shard_size} is more than num_trajectories = "
            f"{config.num_trajectories}; lower the one or raise the other"
        )
    if config.num_shards > MAX_SHARDS:
        yield (
            f"num_trajectories = {config.num_trajectories} in shards of {config.shard_size} makes "
            f"{config.num_shards} shards, more than {MAX_SHARDS}; raise shard_size"
        )
    if config.ensembles.num_shards > MAX_SHARDS:
        yield (
            f"ensembles.num_states = {config.ensembles.num_states} in shards of "
            f"{config.ensembles.shard_size} makes {config.ensembles.num_shards} shards, more than "
            f"{MAX_SHARDS}; raise ensembles.shard_size"
        )
    horizons, states = len(config.ensembles.horizons), config.ensembles.num_states
    for name, count, value in [
        ("ensembles.num_members", horizons * states, config.ensembles.num_members),
        ("evaluation.num_samples", states, config.evaluation.num_samples),
        ("evaluation.num_recursive_samples", states, config.evaluation.num_recursive_samples),
    ]:
        # Seven numbers in single precision each.
        if (size := count * value * 28 / 2**30) > MAX_DRAWN:
            yield (
                f"{name} = {value} for each of {count} states takes {size:.1f} GiB, more than "
                f"{MAX_DRAWN}; lower it or ensembles.num_states"
            )
    last = max(config.videos.trajectories, default=0)
    if last >= config.num_trajectories:
        yield (
            f"videos.trajectories: there is no trajectory {last}, for num_trajectories = "
            f"{config.num_trajectories} counts from 0; lower the one or raise the other"
        )
    tests = config.num_trajectories * config.dataset.test_fraction
    last = max(config.videos.predicted, default=0)
    if last and last >= tests:
        yield (
            f"videos.predicted: there is no test trajectory {last}, for num_trajectories = "
            f"{config.num_trajectories} gives perhaps {tests:.0f} and they count from 0; lower the "
            "one or raise the other"
        )
    low, high = config.dmp.workspace
    for axis in ("goal_x", "goal_y"):
        goal = getattr(config.policies, axis)
        if goal[0] < low or goal[1] > high:
            yield (
                f"policies.{axis} = {list(goal)} px leaves dmp.workspace = [{low:g}, {high:g}]; "
                "narrow the one or widen the other"
            )


def json_schema() -> str:
    """The JSON schema of `config.yaml`, as text."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


_PLAIN_WORDS = {
    "a valid array": "a list",
    "an object": "settings by name",
    "Field required": "one more number",
}


def _describe(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return f"{where}: {message}" if where else message
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown setting{_nearest(error['loc'])}"
    came = json.dumps(error["input"])
    hint = ""
    if isinstance(error["input"], str):
        try:
            float(error["input"])
            hint = (
                " (a number that came as text: write it as 1.0e-3 or 1.0e+3, and set nested "
                "settings in a file, not with --config)"
            )
        except ValueError:
            pass
    expected = re.sub("^[A-Z][a-z]* should (be|have) ", "", error["msg"])
    expected = _PLAIN_WORDS.get(expected, expected)
    return f"{where}: expected {expected}, got {came}{hint}"


def _nearest(location: tuple[str | int, ...]) -> str:
    import difflib

    section: Any = Config
    for part in location[:-1]:
        by_name = get_origin(section) is dict
        section = Variant if by_name else section.model_fields[str(part)].annotation
    names = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    if names:
        return f"; did you mean {names[0]}?"
    return "; expected one of " + ", ".join(section.model_fields)
