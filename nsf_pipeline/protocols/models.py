"""World models by their names in the tables."""

from nsf_pipeline.config import DMPConfig
from nsf_pipeline.model import PushTModel
from nsf_pipeline.planning.models import Nominal, WorldModel


def world_model(
    name: str, model: PushTModel | None, dmp: DMPConfig, action_noise_std: float
) -> WorldModel:
    """The world model of a name."""
    return Nominal(dmp)
