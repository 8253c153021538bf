"""Training: `fit` for any flow and any transitions, and the transitions of the PushT model."""

from nsf_pipeline.training.callbacks import Callback, each_row
from nsf_pipeline.training.checkpoints import Checkpoints
from nsf_pipeline.training.failures import TrainingError
from nsf_pipeline.training.feed import TransitionSource
from nsf_pipeline.training.fitting import fit
from nsf_pipeline.training.stopping import Stopped
from nsf_pipeline.training.table import METRICS

__all__ = [
    "METRICS",
    "Callback",
    "Checkpoints",
    "Stopped",
    "TrainingError",
    "TransitionSource",
    "each_row",
    "fit",
]
