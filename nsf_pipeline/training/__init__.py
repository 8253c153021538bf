"""Training: any flow on any transitions, and the PushT model on its data set."""

from nsf_pipeline.training.fitting import TrainingError, TransitionSource, fit
from nsf_pipeline.training.pusht import METRICS, train_pusht
from nsf_pipeline.training.stopping import Stopped

__all__ = ["METRICS", "Stopped", "TrainingError", "TransitionSource", "fit", "train_pusht"]
