"""How the models of a server are asked: as an OpenAPI document, and as a page."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from mlops_assets.serving.server_state import SERVER_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_assets.ml.inference.artifact import InputColumn
    from mlops_assets.serving.predictor import Predictor

ERROR = {
    "description": "The request does not fit the model; the reason names the column",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    },
}
EXPLANATIONS = {
    "explanations": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "label": {},
                "value": {"type": "number"},
                "base_value": {"type": "number"},
                "attributions": {"type": "object", "additionalProperties": {"type": "number"}},
            },
        },
    }
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Models of this server</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}}
pre{{background:#f4f4f4;padding:.6rem;overflow:auto}}</style>
<h1>Models of this server</h1>
<p>Each answers <a href="https://kserve.github.io/website/">KServe's V1 and V2 protocols</a>;
<a href="openapi.json">openapi.json</a> describes them to programs.</p>
{models}</html>"""
MODEL = """<h2>{name}</h2><p>Version {version}, {task}. A missing value is null.</p>
<table><tr><th>column<th>type<th>may be missing</tr>{columns}</table>
<pre>curl -d {body} http://SERVER/v1/models/{name}:predict</pre>"""


def api_description(models: Iterable[Predictor]) -> dict[str, Any]:
    """The OpenAPI document."""
    paths = dict[str, Any]()
    for model in models:
        paths |= _paths(model)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlops-assets model server", "version": SERVER_VERSION},
        "paths": dict(sorted(paths.items())),
    }


def api_page(models: Iterable[Predictor]) -> str:
    """The page, without scripts."""
    return PAGE.format(models="".join(map(_section, sorted(models, key=lambda model: model.name))))


def _section(model: Predictor) -> str:
    columns = "".join(
        f"<tr><td>{escape(column.name)}<td>{_kind(column)}<td>{'yes' if column.nullable else 'no'}</tr>"
        for column in model.signature.inputs
    )
    shell = json.dumps({"instances": [_example(model)]}).replace("'", "'\\''")
    return MODEL.format(
        name=escape(model.name),
        version=escape(model.served.version),
        task=model.signature.task.replace("_", " "),
        columns=columns,
        body=escape(f"'{shell}'", quote=False),
    )


def _example(model: Predictor) -> dict[str, Any]:
    return dict(model.signature.golden.rows[0])


def _paths(model: Predictor) -> dict[str, Any]:
    signature = model.signature
    row = {
        "type": "object",
        "properties": {column.name: _value(column) for column in signature.inputs},
        "required": [column.name for column in signature.inputs if not column.nullable],
        "additionalProperties": False,
    }
    probabilities = {"type": "array", "items": {"type": "number"}}
    labels = {"enum": list(signature.classes)} if signature.classes else {}
    prediction = (
        {"type": "number"}
        if signature.classes is None
        else {"type": "object", "properties": {"label": labels, "probabilities": probabilities}}
    )
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": [column.name for column in signature.inputs]},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    }
    named = {
        "model_name": {"const": model.name},
        "model_version": {"const": model.served.version},
        "id": {"type": "string"},
    }
    rows = {"instances": {"type": "array", "items": row, "minItems": 1}}
    request_v1 = {"type": "object", "properties": rows}
    answer_v1 = named | {"predictions": {"type": "array", "items": prediction}}
    request_v2 = {"type": "object", "properties": {"id": named["id"], "inputs": {"type": "array", "items": tensor}}}
    answer_v2 = named | {"outputs": {"type": "array", "items": {"type": "object"}}}
    example = {"instances": [_example(model)]}
    explain = f"/v1/models/{model.name}:explain"
    request_explain = {"type": "object", "properties": rows | {"label": labels}}
    explained = {explain: _post(request_explain | {"required": ["instances"]}, named | EXPLANATIONS, example)}
    return (explained if model.served.explain else {}) | {
        f"/v1/models/{model.name}:predict": _post(request_v1 | {"required": ["instances"]}, answer_v1, example),
        f"/v2/models/{model.name}/infer": _post(request_v2 | {"required": ["inputs"]}, answer_v2, _tensors(model)),
    }


def _tensors(model: Predictor) -> dict[str, Any]:
    example = _example(model)
    return {
        "inputs": [
            {"name": c.name, "datatype": c.datatype, "shape": [1, 1], "data": [example[c.name]]}
            for c in model.signature.inputs
        ]
    }


def _kind(column: InputColumn) -> str:
    return "string" if column.dtype == "string" else "number"


def _value(column: InputColumn) -> dict[str, Any]:
    return {"type": [_kind(column), "null"] if column.nullable else _kind(column)}


def _post(request: dict[str, Any], answer: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    good = {"type": "object", "properties": answer}
    return {
        "post": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": request, "example": example}},
            },
            "responses": {
                "200": {"description": "The answers", "content": {"application/json": {"schema": good}}},
                "400": ERROR,
            },
        }
    }
