"""Settings of the simulation."""

from pydantic import Field

from nsf_pipeline.config.section import Section


class SimulationConfig(Section):
    """How policies are run in gym-pusht."""

    action_noise_std: float = Field(default=8.0, ge=0.0, le=256.0)
    """px; standard deviation of Gaussian noise on commanded targets."""
