"""Data sets for other people's tools: one module a format, and the table of all formats here."""

from nsf_pipeline.data.exports import (
    diffusion_policy,
    lerobot,
    minari,
    npz,
    stable_worldmodel,
    stable_worldmodel_lance,
)
from nsf_pipeline.data.exports.format import Format as Format
from nsf_pipeline.data.exports.source import Source as Source
from nsf_pipeline.data.exports.source import chosen_from as chosen_from
from nsf_pipeline.errors import UserError, shown

FORMATS: dict[str, Format] = {
    each.FORMAT.name: each.FORMAT
    for each in (
        npz,
        minari,
        lerobot,
        diffusion_policy,
        stable_worldmodel,
        stable_worldmodel_lance,
    )
}
"""Every format, by name."""


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMATS:
        raise UserError(
            f"--format {shown(name)}: no such format; expected one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]
