"""Training: any flow on any transitions, and what the PushT model is trained on."""

from nsf_pipeline.training.fitting import TrainingError, TransitionSource, fit
from nsf_pipeline.training.pusht import METRICS
from nsf_pipeline.training.stopping import Stopped

__all__ = ["METRICS", "Stopped", "TrainingError", "TransitionSource", "fit"]
