"""The PushT model: what its networks are given, its law in physical units, and its file.

`README.md` in this folder shows in one picture what flows from where to where.
"""

from nsf_pipeline.model.build import build_model
from nsf_pipeline.model.file import ModelFileError, load_model, save_model
from nsf_pipeline.model.model import PushTModel
from nsf_pipeline.model.normaliser import Normaliser, fit_normaliser

__all__ = [
    "ModelFileError",
    "Normaliser",
    "PushTModel",
    "build_model",
    "fit_normaliser",
    "load_model",
    "save_model",
]
