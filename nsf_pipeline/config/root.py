"""All settings of a run, and what follows from several of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nsf_pipeline.config import shards
from nsf_pipeline.config.dataset import DatasetConfig
from nsf_pipeline.config.dmp import DMPConfig
from nsf_pipeline.config.ensembles import EnsembleConfig
from nsf_pipeline.config.evaluation import EvaluationConfig
from nsf_pipeline.config.exports import ExportConfig
from nsf_pipeline.config.model import ModelConfig
from nsf_pipeline.config.planning import PlanningConfig
from nsf_pipeline.config.policies import PolicyConfig
from nsf_pipeline.config.protocols import ProtocolConfig
from nsf_pipeline.config.runtime import RuntimeConfig
from nsf_pipeline.config.scaling import ScalingConfig, name_of
from nsf_pipeline.config.second_round import SecondRoundConfig
from nsf_pipeline.config.section import ConfigError, Section
from nsf_pipeline.config.shards import MAX_SHARD_SIZE, MAX_SHARDS, MAX_TRAJECTORIES
from nsf_pipeline.config.speed import SpeedConfig
from nsf_pipeline.config.training import TrainingConfig
from nsf_pipeline.config.variants import (
    MAX_VARIANTS,
    Variant,
    VariantName,
    default_variants,
    merged,
)
from nsf_pipeline.config.videos import VideoConfig
from nsf_pipeline.config.wandb import WandbConfig


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
    """Seed of all random numbers."""
    num_trajectories: int = Field(default=200_000, ge=1, le=MAX_TRAJECTORIES)
    """Trajectories to simulate."""
    shard_size: int = Field(default=2500, ge=1, le=MAX_SHARD_SIZE)
    """Trajectories per shard: one file and two jobs each."""
    dmp: DMPConfig = DMPConfig()
    policies: PolicyConfig = PolicyConfig()
    dataset: DatasetConfig = DatasetConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    variants: dict[VariantName, Variant | None] = Field(
        default_factory=default_variants, max_length=MAX_VARIANTS
    )
    """Variants of the model, which `snakemake ablations` trains and compares: by name, what each
    changes in the sections `model` and `training`. You can add your own under any other name. Set a
    variant to null to leave it out."""
    ensembles: EnsembleConfig = EnsembleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    speed: SpeedConfig = SpeedConfig()
    scaling: ScalingConfig = ScalingConfig()
    planning: PlanningConfig = PlanningConfig()
    second_round: SecondRoundConfig = SecondRoundConfig()
    protocols: ProtocolConfig = ProtocolConfig()
    videos: VideoConfig = VideoConfig()
    exports: ExportConfig = ExportConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    wandb: WandbConfig = WandbConfig()

    @property
    def max_steps(self) -> int:
        """Control steps of the longest trajectory, the padded length T.

        Stages that shape arrays call `num_steps` themselves, because no stage hashes this module.
        """
        return self.policies.max_steps

    @property
    def num_shards(self) -> int:
        """Shards that hold all trajectories."""
        return shards.num_shards(self.num_trajectories, self.shard_size)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First trajectory of a shard, and one past its last."""
        return shards.shard_range(shard, self.num_trajectories, self.shard_size)

    def shard_size_of(self, shard: int) -> int:
        """Trajectories of a shard: the last one may have fewer."""
        first, stop = self.shard_range(shard)
        return stop - first

    def shards_with(self, first: int, stop: int) -> range:
        """The shards that hold the trajectories from `first` up to, and without, `stop`."""
        return range(first // self.shard_size, shards.num_shards(stop, self.shard_size))

    @property
    def all_trajectories(self) -> int:
        """Trajectories of both rounds."""
        return self.num_trajectories + self.second_round.trajectories

    @property
    def second_shards(self) -> range:
        """The shards of the second round, which follow those of the first; none if it is off."""
        last = shards.num_shards(self.all_trajectories, self.shard_size)
        return range(self.num_shards, max(self.num_shards, last))

    def second_shard_range(self, shard: int) -> tuple[int, int]:
        """First trajectory of a shard of the second round, and one past its last."""
        return shards.shard_range(shard, self.all_trajectories, self.shard_size)

    @property
    def parts(self) -> shards.Division:
        """The files that the data set is divided into; none if it is one file."""
        return shards.Division(self.num_trajectories, self.dataset.trajectories_per_file)

    @property
    def variant_names(self) -> list[str]:
        """Names of the variants that are not left out."""
        return [name for name, changes in self.variants.items() if changes is not None]

    @property
    def points(self) -> dict[str, tuple[str, int, Variant]]:
        """The models of the scaling curves that are to be trained: axis, value and changes."""
        all_of_them = self.dataset.train_trajectories(self.num_trajectories)
        found = self.scaling.points(self, all_of_them)
        return {name_of(axis, value): (axis, value, changes) for axis, value, changes in found}

    @property
    def changed(self) -> dict[str, Variant]:
        """What each model beside the default one changes, by name: variants, and scaling points.

        Where these settings are a stage's view, those of the two that the stage reads.
        """
        held, found = self.held, {}
        if "variants" in held or "scaling" not in held:
            found = {name: each for name, each in self.variants.items() if each is not None}
        if "scaling" in held:
            found |= {name: changes for name, (*_, changes) in self.points.items()}
        return found

    def variant(self, name: str) -> "Config":
        """All settings of a variant, or of a scaling point: these with its changes.

        Raises:
            KeyError: there is no such variant, or it is left out.
            ValidationError: its changes contradict the settings that it leaves as they are.
        """
        changes = self.changed[name]
        given = changes.model_dump()
        # A user's class reads no other setting of the section, so no other one makes it stale.
        usual = ModelConfig() if changes.model.user_class else self.model
        model = merged(usual.model_dump(), given.get("model", {}))
        training = merged(self.training.model_dump(), given.get("training", {}))
        changed = {
            "model": ModelConfig.model_validate(model),
            "training": TrainingConfig.model_validate(training),
        }
        return self.model_copy(update=changed)

    @property
    def held(self) -> set[str]:
        """Names of the sections and single settings; a view made by `only` lacks some."""
        return type(self).model_fields.keys() & self.__dict__.keys()

    def only(self, *names: str) -> "Config":
        """A view of the settings with only the named sections; reading any other is an error."""
        view = self.model_copy()
        for name in view.held - set(names):
            del view.__dict__[name]
        return view

    def unable_to_plan(self) -> Iterator[str]:
        """One line for each model that is to plan, but does not know the policy."""
        why, off = "knows nothing of the policy, so it cannot plan", "model.conditional = false"
        is_asked = "flow" in self.protocols.models
        if is_asked and not self.model.conditional:
            yield f"protocols.models: with {off}, flow {why}; leave it out"
        if self.second_round.trajectories and not self.model.conditional:
            yield (
                f"second_round.trajectories = {self.second_round.trajectories}: with {off}, the "
                f"flow {why}; set it to 0"
            )
        for name in self.protocols.variants if is_asked else ():
            if name in self.variant_names and not self.variant(name).model.conditional:
                yield f"protocols.variants: with {off}, {name} {why}; leave it out"

    def contradictions(self) -> Iterator[str]:
        """One line for each contradiction between settings; variants are not checked."""
        yield from self.policies.contradictions(self.dmp)
        yield from self.model.contradictions(self.training)
        yield from self.training.contradictions(self.policies, self.dataset, self.num_trajectories)
        yield from self.ensembles.contradictions(self.policies)
        yield from self.dataset.contradictions(self.num_trajectories, self.shard_size)
        yield from self.evaluation.contradictions(self.ensembles)
        yield from self.videos.contradictions(self.dataset, self.num_trajectories)
        yield from self.protocols.contradictions(
            self.variant_names, self.all_trajectories, self.planning.search
        )
        yield from self.second_round.contradictions(
            self.num_trajectories, self.shard_size, self.planning.search
        )
        if self.second_round.trajectories and not self.policies.scene.is_usual:
            yield (
                f"second_round.trajectories = {self.second_round.trajectories}: its pushes are "
                "planned for gym-pusht's scene, and policies.scene has another; reset the one or "
                "the other"
            )
        if len(self.policies.given) > self.num_trajectories:
            yield (
                f"policies.given names {len(self.policies.given)} policies, more than "
                f"num_trajectories = {self.num_trajectories}; name fewer or raise it"
            )
        if self.shard_size > self.num_trajectories:
            yield (
                f"shard_size = {self.shard_size} is more than num_trajectories = "
                f"{self.num_trajectories}; lower the one or raise the other"
            )
        if self.num_shards > MAX_SHARDS:
            yield (
                f"num_trajectories = {self.num_trajectories} in shards of {self.shard_size} makes "
                f"{self.num_shards} shards, more than {MAX_SHARDS}; raise shard_size"
            )
