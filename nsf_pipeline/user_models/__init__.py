"""Models that users bring: classes of their own, trained, scored, timed and planned with like ours.

`protocol` says what a class must have, `model` calls it and checks what it returns, and `file`
writes and reads its arrays. Which class it is, settings say (`model.kind` of a variant); a model's
file never does. `nsf_pipeline.user_code` finds and imports it.
"""

from nsf_pipeline.user_models.file import is_user_model, load_user_model, save_user_model
from nsf_pipeline.user_models.model import UserModel
from nsf_pipeline.user_models.protocol import Data, Report, ScoredModel, SupportsSampling, normal

__all__ = [
    "Data",
    "Report",
    "ScoredModel",
    "SupportsSampling",
    "UserModel",
    "is_user_model",
    "load_user_model",
    "normal",
    "save_user_model",
]
