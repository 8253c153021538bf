"""What the sections of the settings share: their base class, types, and the error."""

from collections.abc import Hashable, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nsf_pipeline.errors import UserError, shown

MAX_MESSAGE = 2000
"""Characters of an error's message, at most."""
MAX_DURATION = 60.0
"""s; the longest trajectory."""
Number = TypeVar("Number", bound=float)


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, out of range or contradicts another.

    The message is one short line that can be printed, whatever it quotes.
    """

    def __init__(self, message: str):
        super().__init__(shown(message, MAX_MESSAGE))


class Section(BaseModel):
    """Immutable settings; unknown names and values of the wrong type are refused.

    The text below a field says what the setting means and in which unit. It is in the JSON schema,
    in the comments of `config.yaml`, and on the report's page of settings.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]} exceeds the upper bound {bounds[1]}")
    return bounds


def require_each_once(name: str, values: Sequence[Hashable], what: str) -> None:
    """Refuse a setting that lists something twice.

    Raises:
        ValueError: one line that names the setting.
    """
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{name}: {list(values)} names one {what} twice")
        seen.add(value)


Range = Annotated[tuple[Number, Number], AfterValidator(_ordered)]
"""A lower and an upper bound."""
Pixel = Annotated[float, Field(ge=0.0, le=512.0)]
"""A coordinate in PushT's square window, in px."""
