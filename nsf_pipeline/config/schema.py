"""The settings as a JSON schema."""

import json

from nsf_pipeline.config.root import Config


def json_schema() -> str:
    """The JSON schema of `config.yaml`, as text."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"
