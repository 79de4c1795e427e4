"""The JSON schema of a model's YAML, for editors; `mlops-assets schema` writes it."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mlops_assets.spec.model_spec import ModelSpec

# What Dagster takes beside them in each defs.yaml
DAGSTERS_OWN: dict[str, Any] = {
    "requirements": {
        "type": "object",
        "properties": {"env": {"type": "array", "items": {"type": "string"}}},
        "description": "What must be there: under env, names of environment variables",
    },
    "post_processing": {
        "type": "object",
        "description": "What Dagster changes in the assets, such as {assets: [{target: '*', attributes: {tags: {}}}]}",
    },
    "template_vars_module": {"type": ["string", "null"], "description": "A Python module with variables of templates"},
}
SECONDS_OF = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class _DefaultsAsInYaml(GenerateJsonSchema):
    """Shows default durations as a YAML may have them (`60s`), and not as ISO 8601, which it may not."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return {name: self.encode_default(getattr(dft, name)) for name in type(dft).model_fields}
        if isinstance(dft, timedelta):
            seconds = int(dft.total_seconds())
            unit = next(unit for unit, length in SECONDS_OF.items() if seconds % length == 0)
            return f"{seconds // SECONDS_OF[unit]}{unit}"
        return super().encode_default(dft)


def schema() -> dict[str, Any]:
    """The JSON schema of a whole defs.yaml."""
    attributes = ModelSpec.model_json_schema(schema_generator=_DefaultsAsInYaml)
    definitions = attributes.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A model's defs.yaml",
        "type": "object",
        "properties": {"type": {"const": "mlops_assets.ModelPipeline"}, "attributes": attributes, **DAGSTERS_OWN},
        "required": ["type", "attributes"],
        "additionalProperties": False,
        "$defs": definitions,
    }
