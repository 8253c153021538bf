"""Settings of the Dynamic Movement Primitives."""

from pydantic import Field

from nsf_pipeline.config.section import Pixel, Range, Section


class DMPConfig(Section):
    """What all Dynamic Movement Primitives (DMPs) have in common."""

    n_basis: int = Field(default=6, ge=2, le=64)
    """Radial basis functions per coordinate."""
    phase_decay: float = Field(default=4.0, ge=1e-6, le=20.0)
    """Over one duration, the phase decays to exp(-phase_decay)."""
    scale_forcing_by_goal_delta: bool = True
    """Forcing is scaled by goal - start per axis; false: by 256 px."""
    workspace: Range[Pixel] = (25.0, 487.0)
    """px; desired positions are clipped to this square."""
    integration_steps: int = Field(default=32, ge=8, le=4096)
    """Integration steps over one duration."""
