"""Settings of the evaluation."""

from collections.abc import Iterator

from pydantic import Field

from nsf_pipeline.config.ensembles import EnsembleConfig, too_much_memory
from nsf_pipeline.config.section import Section


class EvaluationConfig(Section):
    """The comparison of predictions with the test split and the ensembles."""

    num_samples: int = Field(default=128, ge=4, le=65_536)
    """Draws per state."""
    num_recursive_samples: int = Field(default=16, ge=4, le=65_536)
    """Draws per state, predicted one control step at a time."""

    def contradictions(self, ensembles: EnsembleConfig) -> Iterator[str]:
        """One line for each contradiction with another section."""
        for name in ("num_samples", "num_recursive_samples"):
            draws = getattr(self, name)
            yield from too_much_memory(f"evaluation.{name}", draws, ensembles.num_states)
