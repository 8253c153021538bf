"""Untrained models, of the kind that their settings name."""

from jaxtyping import PRNGKeyArray

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.model.pusht import PushTModel, build_flow
from nsf_pipeline.model.view import Normaliser, View


def build_model(
    config: ModelConfig, dmp: DMPConfig, normaliser: Normaliser, *, key: PRNGKeyArray
) -> PushTModel:
    """An untrained model.

    Args:
        config: its kind and sizes.
        dmp: what all policies share.
        normaliser: see `fit_normaliser`.
        key: for the initial weights.
    """
    view = View(config, dmp, normaliser)
    if config.kind == "neural_sde":
        # With its solver, which is slow to import.
        from nsf_pipeline.model.neural_sde import build_neural_sde

        return build_neural_sde(view, key=key)
    return build_flow(view, key=key)
