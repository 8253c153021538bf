"""`python -m nsf_pipeline.config` writes the files that are generated from the settings' types."""

import sys
from collections.abc import Callable
from pathlib import Path

from nsf_pipeline.config.schema import json_schema
from nsf_pipeline.config.yaml_text import config_yaml
from nsf_pipeline.system.printing import make_streams_safe, say

ROOT = Path(__file__).parents[2]
GENERATED: dict[str, Callable[[], str]] = {
    "config.yaml": config_yaml,
    "workflow/schemas/config.schema.json": json_schema,
}
"""The function that gives each file's text, by the file's path in the repository."""


def main(root: Path = ROOT) -> None:
    """Write the files that are out of step."""
    if not all((root / name).parent.is_dir() for name in GENERATED):
        sys.exit(f"{root}: expected a checkout of the repository")
    for name, make in GENERATED.items():
        path, text = root / name, make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            say(f"{name}: up to date")
        else:
            path.write_text(text, encoding="utf-8")
            say(f"{name}: written")


if __name__ == "__main__":
    make_streams_safe()
    main()
