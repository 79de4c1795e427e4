"""What exposes a model: who is let in, to what of it, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from resources.serving.expose import Expose
from resources.serving.exposure import ROUTE, SECURITY, TRAFFIC, credential, exposure
from tests.crds import problems

OWNER = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "iris", "uid": "u"}
BY_KEY = {"api_key": {"secret": "callers"}}
BY_TOKEN = {"jwt": {"issuer": "https://id.example.com", "jwks": "https://id.example.com/keys", "audiences": ["models"]}}


def made(gateway: str = "gateways/public/https", **fields: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    expose = Expose.model_validate({"host": "iris.example.com", "auth": BY_KEY, **fields})
    return exposure("iris", "iris", expose, gateway, "iris-transformer", "iris-predictor", OWNER)


def test_of_a_model_that_is_not_exposed_nothing_is() -> None:
    assert exposure("iris", "iris", None, "a/b", "iris-predictor", "iris-predictor", OWNER) == {}


def test_a_route_leads_to_what_callers_need_of_this_model_and_to_nothing_else() -> None:
    spec = made()[ROUTE]["spec"]
    [parent] = spec["parentRefs"]
    assert (parent["namespace"], parent["name"], parent["sectionName"]) == ("gateways", "public", "https")
    assert spec["hostnames"] == ["iris.example.com"]
    ways = {
        (match["method"], match["path"]["value"]): rule["backendRefs"][0]["name"]
        for rule in spec["rules"]
        for match in rule["matches"]
        if match["path"]["type"] == "Exact"
    }
    assert ways == {
        ("POST", "/v1/models/iris:predict"): "iris-transformer",
        ("POST", "/v1/models/iris:explain"): "iris-transformer",
        ("POST", "/v2/models/iris/infer"): "iris-transformer",
        ("POST", "/v1/models/iris/feedback"): "iris-predictor",
        ("GET", "/v1/models/iris"): "iris-predictor",
        ("GET", "/v2/models/iris"): "iris-predictor",
        ("GET", "/v2/models/iris/ready"): "iris-predictor",
    }
    assert len(ways) == sum(len(rule["matches"]) for rule in spec["rules"])


def test_without_a_listener_it_is_at_all_of_the_gateways() -> None:
    [parent] = made("gateways/public")[ROUTE]["spec"]["parentRefs"]
    assert "sectionName" not in parent


def test_callers_are_known_before_there_is_a_route_and_all_go_with_the_service() -> None:
    objects = made(requests_per_minute=60)
    assert [*objects] == [SECURITY, TRAFFIC, ROUTE]
    for item in objects.values():
        assert item["metadata"]["ownerReferences"] == [OWNER]
    for kind in (SECURITY, TRAFFIC):
        [target] = objects[kind]["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("HTTPRoute", "iris.exposed")


def test_a_key_of_the_secret_lets_in_and_does_not_come_to_the_model() -> None:
    key = made(auth={"api_key": {"secret": "callers", "header": "x-key"}})[SECURITY]["spec"]["apiKeyAuth"]
    assert key["credentialRefs"] == [{"group": "", "kind": "Secret", "name": "callers"}]
    assert (key["extractFrom"], key["sanitize"]) == ([{"headers": ["x-key"]}], True)


def test_a_token_of_the_issuer_lets_in() -> None:
    [provider] = made(auth=BY_TOKEN)[SECURITY]["spec"]["jwt"]["providers"]
    assert (provider["issuer"], provider["audiences"]) == ("https://id.example.com", ["models"])
    assert provider["remoteJWKS"] == {"uri": "https://id.example.com/keys"}
    assert provider["extractFrom"] == {"headers": [{"name": "authorization", "valuePrefix": "Bearer "}]}


def test_a_token_is_taken_away_before_the_model_and_nothing_else_is_changed() -> None:
    kept_back = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["authorization"]}}
    assert [rule["filters"] for rule in made(auth=BY_TOKEN)[ROUTE]["spec"]["rules"]] == [[kept_back]] * 3
    for auth in (BY_KEY, "none"):
        assert not any("filters" in rule for rule in made(auth=auth)[ROUTE]["spec"]["rules"])


def test_everybody_is_let_in_where_that_is_written_out() -> None:
    assert [*made(auth="none")] == [ROUTE]
    expose = Expose.model_validate({"host": "iris.example.com", "auth": "none"})
    assert Expose.model_validate_json(expose.model_dump_json(exclude_defaults=True)) == expose


def test_requests_are_limited_in_each_minute() -> None:
    limit = made(requests_per_minute=60)[TRAFFIC]["spec"]["rateLimit"]
    assert limit == {"type": "Local", "local": {"rules": [{"limit": {"requests": 60, "unit": "Minute"}}]}}
    assert TRAFFIC not in made()


@pytest.mark.parametrize(
    ("auth", "header"), [(BY_KEY, "x-api-key: $API_KEY"), (BY_TOKEN, "authorization: Bearer $TOKEN"), ("none", None)]
)
def test_an_example_shows_where_the_credential_stands(auth: Any, header: str | None) -> None:
    assert credential(Expose.model_validate({"host": "iris.example.com", "auth": auth}).auth) == header


@pytest.mark.parametrize("auth", [BY_KEY, BY_TOKEN], ids=["by key", "by token"])
def test_the_crds_take_every_field(auth: dict[str, Any]) -> None:
    for item in made(auth=auth, requests_per_minute=60).values():
        assert problems(item) == []
