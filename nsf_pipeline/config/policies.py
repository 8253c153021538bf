"""Settings of the sampled policies."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from nsf_pipeline.config.dmp import DMPConfig
from nsf_pipeline.config.policy_file import PolicyFile
from nsf_pipeline.config.scene import SceneConfig
from nsf_pipeline.config.section import MAX_DURATION, Pixel, Range, Section
from nsf_pipeline.timing import CONTROL_DT, num_steps

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Duration = Annotated[float, Field(ge=0.1, le=MAX_DURATION)]
Weight = Annotated[float, Field(ge=-100.0, le=100.0)]
Stiffness = Annotated[float, Field(ge=1.0, le=10_000.0)]
Path = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1000)]
NoiseStd = Annotated[float, Field(ge=0.0, le=256.0)]
DampingRatio = Annotated[float, Field(ge=1e-6, le=20.0)]


MAX_GIVEN = 1000
"""Policies that are given as files, at most."""
MOST_GIVEN = 900_000
"""Bytes of these together, at most: they stand in the records of all files, a model's line too."""


class PolicyConfig(Section):
    """What differs from trajectory to trajectory. Ranges are sampled uniformly."""

    mid_task_fraction: Fraction = 0.5
    """Share of trajectories that start in mid-task (block anywhere, agent near it or away, moving
    or not); the others start from the environment's reset."""
    duration: Range[Duration] = (1.0, 3.6)
    """s; how long a trajectory lasts."""
    goal_x: Range[Pixel] = (40.0, 472.0)
    """px; the goal's x, inside dmp.workspace."""
    goal_y: Range[Pixel] = (40.0, 472.0)
    """px; the goal's y, inside dmp.workspace."""
    contact_fraction: Fraction = 0.7
    """Share of goals on or beyond the block; others are uniform."""
    weights: Range[Weight] = (-1.0, 1.0)
    """Forcing weights, in units of the forcing's scale."""
    stiffness: Range[Stiffness] = (50.0, 50.0)
    """K, in 1/duration^2; small values spread the motion over the duration."""
    damping_ratio: Range[DampingRatio] = (1.0, 1.0)
    """D / (2 sqrt(K)); 1 is critical damping."""

    action_noise_std: Range[NoiseStd] = (0.0, 16.0)
    """px; standard deviation of the Gaussian noise on a trajectory's commanded targets."""
    noiseless_fraction: Fraction = 0.1
    """Share of trajectories without noise, whatever action_noise_std says."""

    scene: SceneConfig = SceneConfig()
    """The scene of each trajectory; models know gym-pusht's block, agent and walls alone."""

    given: tuple[PolicyFile | Path, ...] = Field(default=(), max_length=MAX_GIVEN)
    """Files of policies (JSON, as `nsf explore` saves them), from the run's folder; they are those
    of the first trajectories, and the others are sampled. In stamps and records, their content
    stands in their place."""

    @property
    def max_steps(self) -> int:
        """Control steps of the longest trajectory."""
        return num_steps(self.duration[1])

    def contradictions(self, dmp: DMPConfig) -> Iterator[str]:
        """One line for each contradiction with another section."""
        yield from self.scene.contradictions()
        low, high = dmp.workspace
        for axis in ("goal_x", "goal_y"):
            goal = getattr(self, axis)
            if goal[0] < low or goal[1] > high:
                yield (
                    f"policies.{axis} = {list(goal)} px leaves dmp.workspace = [{low:g}, {high:g}]"
                    "; narrow the one or widen the other"
                )
        for number, policy in enumerate(self.given):
            if isinstance(policy, str):
                continue
            name = f"policies.given[{number}]"
            if policy.dmp != dmp:
                yield (
                    f"{name}: its `dmp` is not that of the settings; set `dmp` to it, or shape the "
                    "policy again with these settings (nsf explore --config)"
                )
            if policy.policy.duration > self.duration[1]:
                yield (
                    f"{name}: it lasts {policy.policy.duration:g} s, longer than policies.duration "
                    f"= {list(self.duration)} allows; raise that or shorten the policy"
                )

    def outlasted_by(self, name: str, seconds: float) -> Iterator[str]:
        """A line if a setting's time in s is longer than any trajectory."""
        if seconds > self.max_steps * CONTROL_DT + 1e-9:
            yield (
                f"{name} = {seconds:g} s is longer than any trajectory: policies.duration ends at "
                f"{self.duration[1]:g} s; lower the one or raise the other"
            )
