"""The online store: the newest values of a model's feature views, in Feast's registry and tables.

Entities and views are made from the YAML, and registered; what a row gets without a value stands in a view's tags, so
whoever looks values up needs the store alone. One SQLite file and one registry file for each model on this machine, or
one PostgreSQL database with a SQL registry for all.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from mlops_assets.ml.data.feature_view import EVENT_TIME, FeatureView, Scalar
from mlops_assets.ml.errors import DeploymentError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resources.environment import Environment

RULES, MATERIALIZED = "mlops_assets.view", "mlops_assets.materialized"  # tags of a view
KEY_VERSION = 3  # of Feast's serialized entities
READ_AT_ONCE = 10_000  # entities; SQLite takes 32,766 values in a statement


class Known(NamedTuple):
    """What the store has of an entity: when it became known (naive UTC), and the values that are not empty."""

    at: datetime | None
    values: Mapping[str, Scalar]


NOTHING = Known(None, {})


class OnlineStore:
    """Where the newest values lie: below `folder`, or in the PostgreSQL database at the address `database`.

    Where there is neither, a model may not have views.
    """

    def __init__(self, folder: Path | None, database: str | None = None) -> None:
        self._folder, self._database = folder, database

    @classmethod
    def in_environment(cls, environment: Environment) -> OnlineStore:
        """The store of an environment: embedded, where it names no database and its pods do not come and go."""
        database = environment.features_database
        return cls(
            None if environment.production else environment.features, database.get_secret_value() if database else None
        )

    def has(self, model: str) -> bool:
        """Whether a model may have views here; a database is asked for them."""
        folder = self._folder
        return self._database is not None or (folder is not None and (folder / model.replace("-", "_")).is_dir())

    def of(self, model: str) -> OnlineViews:
        """The views of a model, by the name that it has at endpoints.

        Raises:
            SpecError: there is no place for them.
        """
        project = model.replace("-", "_")
        if self._database is None:
            if self._folder is None:
                what = "In production, feature views need a database"
                raise SpecError(what, remedy="set MLOPS_FEATURES_DATABASE to the address of a PostgreSQL database")
            folder = self._folder / project
            folder.mkdir(parents=True, exist_ok=True)
            # Readers go on while a run writes
            with sqlite3.connect(folder / "online.db") as database:
                database.execute("PRAGMA journal_mode = WAL")
            online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
            return OnlineViews(project, online, str(folder / "registry.db"))
        address = urlsplit(self._database)
        login = {"user": unquote(address.username or ""), "password": unquote(address.password or "")}
        place = {"host": address.hostname, "port": address.port or 5432, "database": address.path.lstrip("/")}
        # None is what libpq's own variables say, PGSSLMODE and PGSSLROOTCERT, as for the registry
        online = {"type": "postgres", "conn_type": "pool", "sslmode": None, **place, **login}
        registry = {"registry_type": "sql", "path": address._replace(scheme="postgresql+psycopg").geturl()}
        return OnlineViews(project, online, registry)

    def remove(self, model: str) -> list[str]:
        """Take the views of a model out, with their values and all that is registered of them; the names of these.

        Each model has a project of its own, so no other one has any of them.

        Raises:
            DeploymentError: the store cannot be read or changed.
        """
        if not self.has(model):
            return []
        project = model.replace("-", "_")
        try:
            names = self.of(model).remove()
            if self._database is None and self._folder is not None:
                shutil.rmtree(self._folder / project)
        except Exception as error:  # of Feast, SQLAlchemy, psycopg, sqlite3
            what = f"the feature views of {model} cannot be taken out of the online store ({type(error).__name__})"
            raise DeploymentError(what, remedy="retire the model again when the store answers") from error
        return names


class OnlineViews:
    """The views of one model in the online store."""

    def __init__(self, project: str, online: Mapping[str, Any], registry: str | Mapping[str, Any]) -> None:
        from feast import FeatureStore
        from feast.repo_config import RepoConfig

        self._config: Any = RepoConfig(
            project=project,
            provider="local",
            registry=registry,  # pyright: ignore[reportArgumentType]
            online_store=online,
            entity_key_serialization_version=KEY_VERSION,
        )
        self._store: Any = FeatureStore(config=self._config)
        self._known = self._registered()  # the registry is slow to ask: it is read whole

    @property
    def _tables(self) -> Any:
        return self._store._get_provider().online_store

    def views(self) -> dict[str, FeatureView]:
        """The rules of the views that are registered now, by name."""
        self._store.refresh_registry()
        self._known = self._registered()
        return {name: _rules(view) for name, view in self._known.items()}

    def register(self, views: Mapping[str, FeatureView], files: Mapping[str, Path]) -> None:
        """Make these the model's views: their tables are made, and views that are none of them go with theirs.

        `files` are the rows of each view, as its source for those who use Feast itself.
        """
        before = self._known
        entities: dict[str, Any] = {name: _entity(name) for view in views.values() for name in view.entity}
        made = [_feast_view(name, view, entities, files[name], before.get(name)) for name, view in views.items()]
        gone = [view for name, view in before.items() if name not in views]
        self._store.apply([*entities.values(), *made], objects_to_delete=gone, partial=not gone)
        self._known = self._registered()

    def remove(self) -> list[str]:
        """Take all views and their tables out, and the project with its entities; the names of the views."""
        from feast.errors import ProjectNotFoundException, ProjectObjectNotFoundException

        self._store.refresh_registry()
        gone = self._registered()
        if gone:
            self._store.apply([], objects_to_delete=[*gone.values(), *self._store.list_entities()], partial=False)
        with suppress(ProjectNotFoundException, ProjectObjectNotFoundException):
            self._store.registry.delete_project(self._config.project)
        self._known = {}
        return sorted(gone)

    def materialized(self, name: str) -> str | None:
        """The version of the rows whose newest ones are all in the store; None where that is not known."""
        view = self._known.get(name)
        return view.tags.get(MATERIALIZED) if view is not None else None

    def has_materialized(self, name: str, version: str | None) -> None:
        """Note of which rows the newest ones are all in the store; None where that is not known any more."""
        view = self._known[name]
        view.tags = {RULES: view.tags[RULES]} | ({MATERIALIZED: version} if version else {})
        self._store.apply([view])

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Put rows in the place of what is known of their entities, and say how many; their times are naive UTC."""
        view = self._known[name]
        keys, features = _rules(view).entity, [feature.name for feature in view.features]
        data = [
            (
                _key({key: row[key] for key in keys}),
                {feature: _value(row[feature]) for feature in features},
                row[EVENT_TIME].replace(tzinfo=UTC),
                None,
            )
            for row in rows
        ]
        self._tables.online_write_batch(self._config, view, data, None)
        return len(data)

    def read(self, name: str, entities: Sequence[Mapping[str, str]]) -> list[Known]:
        """What is known of each of these entities, in their order."""
        view = self._known[name]
        features = [feature.name for feature in view.features]
        keys = [_key(entity) for entity in entities]
        rows = [
            row
            for first in range(0, len(keys), READ_AT_ONCE)
            for row in self._tables.online_read(self._config, view, keys[first : first + READ_AT_ONCE], features)
        ]
        return [NOTHING if at is None or found is None else Known(_naive(at), _values(found)) for at, found in rows]

    def _registered(self) -> dict[str, Any]:
        return {view.name: view for view in self._store.list_feature_views()}


def _rules(view: Any) -> FeatureView:
    return FeatureView.model_validate({**json.loads(view.tags[RULES]), "max_age": view.ttl})


def _entity(name: str) -> Any:
    from feast import Entity, ValueType

    return Entity(name=name, join_keys=[name], value_type=ValueType.STRING)


def _feast_view(name: str, view: FeatureView, entities: Mapping[str, Any], file: Path, before: Any) -> Any:
    from feast import FeatureView as FeastView
    from feast import Field, FileSource
    from feast.types import Bool, Float64, String

    kinds = {"number": Float64, "category": String, "boolean": Bool}
    types = dict.fromkeys(view.entity, String) | {key: kinds[f.type] for key, f in view.features.items()}
    tags = {RULES: view.model_dump_json(exclude={"max_age"}, exclude_defaults=True)}
    # What is in the store stays as it is while its columns do
    if before is not None and _columns(_rules(before)) == _columns(view) and MATERIALIZED in before.tags:
        tags[MATERIALIZED] = before.tags[MATERIALIZED]
    return FeastView(
        name=name,
        entities=[entities[key] for key in view.entity],
        schema=[Field(name=column, dtype=kind) for column, kind in types.items()],
        ttl=view.max_age,
        source=FileSource(path=str(file), timestamp_field=EVENT_TIME),
        tags=tags,
    )


def _columns(view: FeatureView) -> tuple[list[str], dict[str, str]]:
    return [*view.entity], {name: feature.type for name, feature in view.features.items()}


def _key(entity: Mapping[str, str]) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    names = sorted(entity)
    return EntityKey(join_keys=names, entity_values=[_value(entity[name]) for name in names])


def _value(value: Scalar | None) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value

    match value:
        case None:
            return Value()
        case bool():
            return Value(bool_val=value)
        case str():
            return Value(string_val=value)
        case _:
            return Value(double_val=value)


def _values(found: Mapping[str, Any]) -> dict[str, Scalar]:
    kinds = {name: value.WhichOneof("val") for name, value in found.items()}
    return {name: getattr(found[name], kind) for name, kind in kinds.items() if kind is not None}


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
