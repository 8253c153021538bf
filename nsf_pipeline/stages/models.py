"""Models as the stages read them: of this package, or of a class that the settings name."""

from pathlib import Path
from typing import Any

from nsf_pipeline.config import Config
from nsf_pipeline.files import FileError
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import Record
from nsf_pipeline.user_models import UserModel, is_user_model, load_user_model
from nsf_pipeline.user_models.file import user_model_header

Model = PushTModel | UserModel


def read_model(path: Path | str, config: Config) -> tuple[Model, dict[str, Any]]:
    """A model, and what the first line of its file says.

    Of a user's model the file says which variant it is, and the settings which class that is.

    Args:
        path: the file.
        config: today's settings: all of them, or those of a variant.

    Raises:
        FileError: one line: what is wrong with the file, or the settings name no class for it.
        UserError: the user's class cannot be imported, or refuses the settings of the training.
    """
    if not is_user_model(path):
        return load_model(path), model_header(path)
    fields = user_model_header(path)
    variant = Record.read(fields).variant
    named = "variants" in config.held and variant in config.variant_names
    own = config.variant(variant) if named else config
    kind = own.model.user_class if "model" in own.held else ""
    if not kind:
        raise FileError(
            f"{path}: a model of a user's class, the variant {variant or 'of no name'}; the "
            "settings given name no class for that; give those that it was trained with"
        )
    return load_user_model(path, kind), fields
