"""The tables of arrays in formats.md, written from the schemas: `python docs/array_tables.py`."""

import re
from pathlib import Path

from nsf_pipeline.data.schema import SCHEMAS, Field

PAGE = Path(__file__).with_name("formats.md")
TABLE = re.compile(r"(<!-- arrays: (\w+) -->\n).*?(<!-- end of arrays -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """A page with the table of each kind of file between its markers."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(match[2])}\n{match[3]}", page)


def table(kind: str) -> str:
    """The arrays of a kind of file as Markdown, a row each."""
    rows = ["| array | shape | type | unit | range | meaning |", "|" + " --- |" * 6]
    rows += [_row(name, field, kind == "dataset") for name, field in SCHEMAS[kind].items()]
    return "\n".join(rows) + "\n"


def _row(name: str, field: Field, scales: bool) -> str:
    shape = ", ".join(["n", *map(str, field.axes)])
    is_scaled = scales and field.scaled
    unit, prefix = ("1", "*scaled:* ") if is_scaled else (field.unit, "")
    cells = (f"`{name}`", f"({shape})", field.dtype, unit, field.range, prefix + field.meaning)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
