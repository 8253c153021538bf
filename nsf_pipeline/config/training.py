"""Settings of the training."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from nsf_pipeline.config.dataset import DatasetConfig
from nsf_pipeline.config.policies import PolicyConfig
from nsf_pipeline.config.section import MAX_DURATION, Section
from nsf_pipeline.config.shards import MAX_TRAJECTORIES
from nsf_pipeline.timing import CONTROL_DT, num_steps

MAX_STEPS = 1_000_000_000
"""Optimisation steps, at most."""


class TrainingConfig(Section):
    """Optimisation of the model."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Another number gives another training on the same data: initial parameters and batches."""
    trajectories: int = Field(default=0, ge=0, le=MAX_TRAJECTORIES)
    """Trajectories to train on: the first so many of the train split; 0: all."""
    steps: int = Field(default=16_000, ge=1, le=MAX_STEPS)
    """Optimisation steps."""
    batch_size: int = Field(default=512, ge=1, le=1 << 24)
    """Transitions per step."""
    max_gap: float = Field(default=3.6, ge=CONTROL_DT, le=MAX_DURATION)
    """s; longest t - s that is trained on."""
    block_blur: float = Field(default=0.1, ge=0.0, le=100.0)
    """px/sqrt(s); Brownian motion added to the block, which may rest, so that its law
    has a density."""
    learning_rate: float = Field(default=4e-3, ge=1e-12, le=1.0)
    """Peak rate of Adam."""
    final_learning_rate: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of the peak rate that the cosine decay ends at."""
    warmup_steps: int = Field(default=500, ge=0, le=MAX_STEPS)
    """Steps of linear warm-up, fewer than steps."""
    clip_ratio: float = Field(default=2.0, ge=1.1, le=1e30)
    """The likelihood's gradient is shortened to at most this many times the running mean of its
    norm; that of the consistency losses and the distillation, to the running mean times the sum of
    their weights."""
    one_to_two_weight: float = Field(default=0.03, ge=0.0, le=1e6)
    """Weight of the 1->2 flow-consistency loss."""
    two_to_one_weight: float = Field(default=0.03, ge=0.0, le=1e6)
    """Weight of the 2->1 flow-consistency loss."""
    distillation_weight: float = Field(default=0.0, ge=0.0, le=1e6)
    """Weight of the loss by which one step learns from the model's own draws in two steps."""
    consistency_fraction: float = Field(default=0.03125, ge=1e-9, le=1.0)
    """Share of each batch for the consistency losses and the distillation."""
    threads: int = Field(default=2, ge=1, le=1024)
    """Threads that the networks' sums are divided among on a CPU, on any number of cores: another
    number changes a model's last bits."""
    validate_every: int = Field(default=1000, ge=1, le=MAX_STEPS)
    """Steps between validations, a row of metrics.csv each."""
    validation_size: int = Field(default=16_384, ge=1, le=1 << 24)
    """Transitions per validation, the same each time."""

    @property
    def consistency_weight(self) -> float:
        """The sum of both consistency losses' weights; 0 if no bridge is needed."""
        return self.one_to_two_weight + self.two_to_one_weight

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainingConfig":
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} must be less than steps = {self.steps}"
            )
        return self

    def contradictions(
        self, policies: PolicyConfig, dataset: DatasetConfig, num_trajectories: int
    ) -> Iterator[str]:
        """One line for each contradiction with another section."""
        yield from policies.outlasted_by("training.max_gap", self.max_gap)
        all_of_them = dataset.train_trajectories(num_trajectories)
        if self.trajectories > all_of_them:
            yield (
                f"training.trajectories = {self.trajectories} is more than the train split has, "
                f"about {all_of_them:.0f} of num_trajectories = {num_trajectories}; lower the one "
                "or raise the other"
            )
            return
        given = f"num_trajectories = {num_trajectories}"
        if self.trajectories:
            given = f"training.trajectories = {self.trajectories}"
        shortest = num_steps(policies.duration[0])
        transitions = int((self.trajectories or all_of_them) * shortest)
        if self.batch_size > transitions:
            yield (
                f"training.batch_size = {self.batch_size} is larger than the data: {given} gives "
                f"perhaps {transitions} training transitions; lower the one or raise the other"
            )
