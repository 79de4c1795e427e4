"""The route that explains answers: V1's `:explain`, for models whose YAML has `deploy.explain`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import BadRequest, RequestRefused
from mlops_assets.ml.inference.explain import explain_rows
from mlops_assets.serving.http_answers import REQUEST_ID, VERSION, Answer, HttpRequest, answer_json
from mlops_assets.serving.inference_protocol import parse_json, request_id_of
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.request_body import unpacked

if TYPE_CHECKING:
    from mlops_assets.serving.http_answers import Headers
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.request_body import RequestBody
    from mlops_assets.serving.server_state import ServerState

MAX_ROWS = 16  # each costs as much as thousands of predictions


async def explained(state: ServerState, name: str, headers: Headers, body: RequestBody) -> Answer:
    """Answer `{"instances": [{column: value, ...}, ...], "label": ...}`; without `label` for the class of each answer.

    It is answered in a thread, as large requests are and no more at a time than these: others do not wait for it.

    Raises:
        BadRequest: it does not fit the model.
        RequestRefused: models of this name are not explained.
        ServerBusy: there are too many large requests.
        ModelNotServed: there is no such model.
    """
    model = state.model(name)
    if not model.served.explain:
        raise RequestRefused(404, f"{name} is not explained; its YAML says so by deploy.explain: true")
    content = await body.up_to(LARGE_BODY)
    if not body.whole or len(content) > LARGE_BODY:
        raise RequestRefused(413, f"the body is larger than {LARGE_BODY >> 10} KiB")
    request = HttpRequest(f"/v1/models/{name}:explain", content, headers)
    async with state.holding_large():
        found = await state.in_turn(lambda: _explain(model, request))
    about = [(VERSION, model.served.version.encode()), (REQUEST_ID, found["id"].encode())]
    return answer_json(found)._replace(headers=about)


def _explain(model: Predictor, request: HttpRequest) -> dict[str, Any]:
    content = parse_json(unpacked(request, LARGE_BODY).body)
    given = request.headers.get(REQUEST_ID, b"").decode("latin-1")
    request_id = request_id_of(content.get("id")) or request_id_of(given) or uuid.uuid4().hex
    instances = content.get("instances")
    if isinstance(instances, list) and len(instances) > MAX_ROWS:
        raise BadRequest(f"there are {len(instances)} rows, but at most {MAX_ROWS} are explained at once")
    inputs = model.reader.v1(content)
    explanations = explain_rows(model.onnx, model.signature, inputs, model.background, content.get("label"))
    return {
        "model_name": model.name,
        "model_version": model.served.version,
        "id": request_id,
        "explanations": [explanation.model_dump(exclude_none=True) for explanation in explanations],
    }
