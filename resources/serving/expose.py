"""Who in the world may ask a model, and how often: `deploy.expose` of the YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_serializer, model_validator
from pydantic_core import PydanticCustomError

from mlops_assets.ml.values import Value, problem

NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


class ApiKey(Value):
    """Callers show a key that stands in a Secret of the models' namespace: a key for each caller, by name."""

    secret: str = Field(pattern=NAME, description="The Secret of the callers' keys, by their names")
    header: str = Field(
        default="x-api-key", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The header that has the key"
    )


class Jwt(Value):
    """Callers show a token that somebody else has signed."""

    issuer: str = Field(min_length=1, max_length=253, description="Who signs tokens, their claim iss")
    jwks: str = Field(
        pattern=r"^https://[^\s/]+(/\S*)?$", description="Where the gateway gets the issuer's public keys"
    )
    audiences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, max_length=8, description="Tokens for one of these, their claim aud, are taken"
    )


class Auth(Value):
    """How callers show who they are."""

    api_key: ApiKey | None = Field(default=None, description="By a key in a header")
    jwt: Jwt | None = Field(default=None, description="By a token that an issuer has signed")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.api_key is None) == (self.jwt is None):
            raise problem("", "give one of api_key and jwt; or write auth: none, and everybody may ask")
        return self


def _written_out(value: Any) -> Any:
    if value is None:
        what = "it is empty; give api_key or jwt, or write none in letters, and everybody may ask"
        raise PydanticCustomError("spec", "{message}", {"message": what})
    return None if value == "none" else value


class Expose(Value):
    """The model's address in the world, behind the cluster's gateway."""

    host: str = Field(
        max_length=253,
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Its host name, for which the gateway has a certificate; models may share one",
    )
    auth: Annotated[Auth | None, BeforeValidator(_written_out, json_schema_input_type=Auth | Literal["none"])] = Field(
        description="How callers show who they are; none lets everybody in"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10_000_000, description="The most that each pod of the gateway lets through; then 429"
    )

    @field_serializer("auth", mode="wrap")
    def _as_written(self, auth: Auth | None, serialize: Any) -> Any:
        return "none" if auth is None else serialize(auth)
