"""Settings of the logging to Weights & Biases."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nsf_pipeline.config.section import Section
from nsf_pipeline.errors import shown

NAME = r"^[^\s/\\#?%:]([^/\\#?%:]*[^\s/\\#?%:])?$"
"""W&B's own rule, and no blanks at the ends, which no one would see."""


def project_name(name: str) -> str:
    """Refuse a name that W&B takes for no project, and return it.

    Raises:
        ValueError: one line that quotes the name.
    """
    if len(name) > 128 or not name.isprintable() or not re.fullmatch(NAME, name):
        raise ValueError(
            "expected at most 128 characters that can be printed, without / \\ # ? % : and without "
            f'blanks at the ends, got "{shown(name)}"'
        )
    return name


Project = Annotated[
    str,
    Field(min_length=1, json_schema_extra={"pattern": NAME, "maxLength": 128}),
    AfterValidator(project_name),
]


class WandbConfig(Section):
    """Logging of training to Weights & Biases, beside results/training/metrics.csv."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """The environment variable WANDB_MODE overrides it."""
    project: Project = "nsf-pusht"
    """Project of the runs, without / \\ # ? % and :. The environment variable WANDB_PROJECT
    overrides it."""
