"""The PushT model: what its networks see, the flow in physical units, and its file."""

from nsf_pipeline.model.build import build_model
from nsf_pipeline.model.file import ModelFileError, load_model, save_model
from nsf_pipeline.model.pusht import PushTModel
from nsf_pipeline.model.view import Normaliser, fit_normaliser

__all__ = [
    "ModelFileError",
    "Normaliser",
    "PushTModel",
    "build_model",
    "fit_normaliser",
    "load_model",
    "save_model",
]
