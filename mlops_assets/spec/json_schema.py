"""`python -m mlops_assets.spec.json_schema FILE`: writes the JSON schema of a model's YAML, for editors."""

import json
import sys
from pathlib import Path

from mlops_assets.spec.model_spec import ModelSpec


def schema() -> dict[str, object]:
    """The JSON schema of a whole defs.yaml."""
    attributes = ModelSpec.model_json_schema(ref_template="#/$defs/{model}")
    definitions = attributes.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A model's defs.yaml",
        "type": "object",
        "properties": {"type": {"const": "mlops_assets.ModelPipeline"}, "attributes": attributes},
        "required": ["type", "attributes"],
        "additionalProperties": False,
        "$defs": definitions,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(schema(), indent=2) + "\n")
