"""A model's YAML: what is wrong is told in one line that names the field and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster_shared.yaml_utils import parse_yaml_with_source_position

from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.load_spec import load_spec
from mlops_assets.spec.reference import fields
from tests.services import BROKEN_SERVICES
from tests.stored_views import BROKEN_VIEWS
from tests.support import attributes

PROJECT = Path(__file__).parents[3]
MODELS = sorted((PROJECT / "mlops_assets" / "defs").glob("*/defs.yaml"))
TIMED = {
    "columns": {**attributes()["columns"], "time": {"type": "timestamp"}},
    "source": {"uri": "weather/*.csv", "event_time": "time", "partition_by": "month"},
}
BROKEN: list[tuple[str, dict[str, Any], str, str]] = [
    # what, attributes, field, part of the message
    (
        "unknown field",
        attributes(trian={}),
        "trian",
        "no such field (did you mean train?); allowed here: model, description",
    ),
    ("unknown nested field", attributes(train__epoch=3), "train.epoch", "allowed here: network, params, epochs"),
    ("field of a later block", attributes(deploy={"replicas": 1}), "deploy.replicas", "no such field"),
    (
        "unknown column field",
        attributes(columns__rain__typ="x"),
        "columns.rain.typ",
        "allowed here: type, min, max, values, nullable",
    ),
    ("no model", attributes("model"), "model", "missing; add it"),
    ("no task", attributes("task"), "task", "missing; add it"),
    ("no source", attributes("source"), "source", "missing; add it"),
    ("no features", attributes("features"), "features", "missing; add it"),
    ("no network", attributes("train.network"), "train.network", "missing; add it"),
    ("model name", attributes(model="My Model"), "model", "'My Model' does not match the pattern"),
    ("two underscores", attributes(model="a__b"), "model", "does not match the pattern"),
    ("underscore at the end", attributes(model="iris_"), "model", "does not match the pattern"),
    ("long model name", attributes(model="i" * 42), "model", "at most 41 characters"),
    ("candidate of another model", attributes(model="iris_candidate"), "model", "ends in _candidate is that of"),
    ("group of another model's log", attributes(model="iris_monitoring"), "model", "take another"),
    ("job of another model's months", attributes(model="iris_by_month"), "model", "take another"),
    ("job of another model's days", attributes(model="iris_by_day"), "model", "take another"),
    ("model name is a path", attributes(model="../up"), "model", "does not match the pattern"),
    ("owner", attributes(owners=["someone"]), "owners.0", "does not match the pattern"),
    ("task", attributes(task="clustering"), "task", "'regression', 'binary_classification'"),
    ("number for text", attributes(description=3), "description", "put it in quotes"),
    ("list for object", attributes(source=["a"]), "source", "give fields"),
    ("uri without suffix", attributes(source__uri="weather/*"), "source.uri", ".parquet, .csv, .csv.gz"),
    ("uri scheme", attributes(source__uri="gs://b/*.csv"), "source.uri", "gs:// is not supported"),
    ("partition kind", attributes(source__partition_by="week"), "source.partition_by", "'none', 'day' or 'month'"),
    ("partition, no time", attributes(source__partition_by="day"), "source.partition_by", "source.event_time"),
    ("window, no partition", attributes(source__window=3), "source.window", "set source.partition_by"),
    ("window of none", attributes(**TIMED, source__window=0), "source.window", "greater than or equal to 1"),
    ("start is no month", attributes(**TIMED, source__start="2013-13"), "source.start", "such as 2013-06"),
    ("event time unknown", attributes(source__event_time="when"), "source.event_time", "{type: timestamp}"),
    ("event time no timestamp", attributes(source__event_time="pressure"), "source.event_time", "{type: timestamp}"),
    ("example does not exist", attributes(source__example="no.such.thing"), "source.example", "no module no.such"),
    (
        "example outside of the lake",
        attributes(source={"uri": "s3://b/*.csv", "example": "mlops_assets.datasets.iris"}),
        "source.example",
        "written into the lake only",
    ),
    ("no columns", attributes(columns={}), "columns", "at least 1"),
    ("column type", attributes(columns__rain__type="integer"), "columns.rain.type", "'number', 'category'"),
    ("range of a category", attributes(columns__place__min=0), "columns.place.min", "only numbers"),
    ("values of a number", attributes(columns__pressure__values=["a"]), "columns.pressure.values", "only categories"),
    ("min above max", attributes(columns__pressure__min=2000), "columns.pressure.min", "min 2000 is above max 1100"),
    ("target unknown", attributes(target__column="snow"), "target.column", "snow is not among the columns"),
    (
        "target exists already",
        attributes(target__from="pressure > 3", features__use=["place"]),
        "target.column",
        "source column already",
    ),
    (
        "target of nothing",
        attributes(target={"column": "t", "from": "1 > 0"}),
        "target.from",
        "names none of the columns",
    ),
    ("target is a timestamp", attributes(columns__rain__type="timestamp"), "target.column", "is a timestamp"),
    ("regression on a boolean", attributes(task="regression", gate={"metric": "r2", "at_least": 0}), "task", "number"),
    ("no feature", attributes(features__use=[]), "features.use", "[]: give at least 1"),
    ("feature unknown", attributes(features__use=["wind"]), "features.use.0", "use one of: place, pressure"),
    ("feature twice", attributes(features__use=["place", "place"]), "features.use.1", "used twice"),
    ("feature is the target", attributes(features__use=["place", "rain"]), "features.use.1", "is the target"),
    (
        "feature makes the target",
        attributes(target={"column": "high", "from": "pressure > 1013"}),
        "features.use.1",
        "leakage",
    ),
    ("leakage is a number", attributes(features__leakage=1), "features.leakage", "give fields"),
    ("threshold", attributes(features__leakage={"threshold": 2}), "features.leakage.threshold", "less than or equal"),
    ("allow is text", attributes(features__leakage={"allow": "place"}), "features.leakage.allow", "give a list"),
    (
        "allowed but not used",
        attributes(features__leakage={"allow": ["rain"]}),
        "features.leakage.allow.0",
        "use one of: place, pressure",
    ),
    ("split kind", attributes(prepare__split__by="user"), "prepare.split.by", "'random', 'time' or 'group'"),
    ("split share", attributes(prepare__split__test=1.5), "prepare.split.test", "less than 1"),
    ("split by time", attributes(prepare__split__by="time"), "prepare.split.by", "source.event_time"),
    ("split by group", attributes(prepare__split__by="group"), "prepare.split.column", "by: group needs column"),
    (
        "split group unknown",
        attributes(prepare__split={"by": "group", "column": "x"}),
        "prepare.split.column",
        "x is not among the columns",
    ),
    ("import path", attributes(train__network="MLP"), "train.network", "package.module.ClassName"),
    ("module unknown", attributes(train__network="torhc.nn.Linear"), "train.network", "no module torhc.nn"),
    ("submodule unknown", attributes(train__network="sklearn.lin.X"), "train.network", "no module sklearn.lin"),
    ("epochs", attributes(train__epochs=0), "train.epochs", "greater than or equal to 1"),
    ("epochs is text", attributes(train__epochs="many"), "train.epochs", "valid integer"),
    ("learning rate", attributes(train__learning_rate=-1), "train.learning_rate", "greater than 0"),
    ("schedule of the rate", attributes(train__schedule="linear"), "train.schedule", "'constant' or 'cosine'"),
    ("duration", attributes(train__checkpoint_every="1 minute"), "train.checkpoint_every", "such as 60s or 7d"),
    ("memory", attributes(train__compute={"memory": "16GB"}), "train.compute.memory", "(Mi|Gi|Ti)"),
    ("more memory than there is", attributes(compute={"memory": "9999999Ti"}), "compute.memory", "{0,5}(Mi|Gi|Ti)"),
    ("digits of another script", attributes(compute={"memory": "1\u0663Gi"}), "compute.memory", "[0-9]"),
    ("gpus", attributes(train__compute={"gpu": -1}), "train.compute.gpu", "greater than or equal to 0"),
    (
        "workers of an estimator",
        attributes(train={"network": "sklearn.linear_model.LogisticRegression", "compute": {"workers": 2}}),
        "train.compute.workers",
        "need a torch network",
    ),
    ("no gpu here", attributes(compute={"gpu": 1}), "compute.gpu", "there is no such field"),
    ("no grace", attributes(train__compute={"grace": "0s"}), "train.compute.grace", "such as 60s or 7d"),
    ("cores", attributes(compute={"cpu": 0}), "compute.cpu", "equal to 0.001"),
    ("fewer cores than a thousandth", attributes(compute={"cpu": 0.0001}), "compute.cpu", "equal to 0.001"),
    ("more cores than there are", attributes(compute={"cpu": "1e9"}), "compute.cpu", "less than or equal to 1000"),
    ("longer than time", attributes(compute={"start_within": "99999999999d"}), "compute.start_within", "six digits"),
    ("retries", attributes(compute={"retries": {"spot": 3}}), "compute.retries.spot", "infrastructure, code"),
    ("no patience", attributes(train__early_stopping={}), "train.early_stopping.patience", "missing; add it"),
    ("metric unknown", attributes(gate__metric="auc"), "gate.metric", "choose one of mse, rmse"),
    ("metric of another task", attributes(gate__metric="r2"), "gate.metric", "r2 does not fit binary"),
    ("no threshold", attributes("gate.at_least"), "gate.at_least", "give at_least"),
    ("wrong direction", attributes("gate.at_least", gate__at_most=0.5), "gate.at_least", "better when greater"),
    ("both directions", attributes(gate__at_most=0.5), "gate.at_least", "not at_most"),
    ("name of a job", attributes(model="lake_retention"), "model", "take another"),
    ("name of a model's job", attributes(model="weather_rollback"), "model", "take another"),
    ("name of a refresh", attributes(model="weather_online_features"), "model", "take another"),
    ("name of a folder", attributes(model="served"), "model", "a folder of the lake"),
    ("name of another folder", attributes(model="spaces"), "model", "a folder of the lake"),
    ("unreachable", attributes(gate__at_least=1.5), "gate.at_least", "no model passes 1.5: the best"),
    ("slice by a number", attributes(gate__slices=["pressure"]), "gate.slices.0", "category or boolean"),
    ("cron", attributes(retrain={"schedule": "every day"}), "retrain.schedule", "five fields"),
    ("cron out of range", attributes(retrain={"schedule": "99 3 * * 0"}), "retrain.schedule", "five fields"),
    *(
        (f"retrain {field} {value}", attributes(retrain={field: value}), f"retrain.{field}", message)
        for field, value, message in (
            ("on_drift", "often", "valid boolean"),
            ("drifted_windows", 0, "greater than or equal to 1"),
            ("drifted_windows", 4, "4 of 3 windows there cannot be; give at most 3"),
            ("of_windows", 0, "greater than or equal to 1"),
            ("of_windows", 32, "less than or equal to 31"),
            ("on_performance_loss", 0, "greater than 0"),
            ("on_new_data", "hourly", "valid boolean"),
            ("on_new_code", "always", "valid boolean"),
            ("max_age", "a month", "such as 60s or 7d"),
            ("cooldown", 3600, "such as 60s or 7d"),
            ("per_week", 0, "greater than or equal to 1"),
            ("gate_failure_blocks", "0d", "such as 60s or 7d"),
            ("quiet_hours", "night", "give fields"),
            ("time_zone", "Bern", "use a name such as Europe/Zurich"),
            ("time_zone", "Europe/Zurich", "that of the schedule, and there is none"),
            ("on_drfit", True, "did you mean on_drift?"),
        )
    ),
    *(
        (f"quiet hours {field}", attributes(retrain={"quiet_hours": hours}), f"retrain.quiet_hours.{field}", message)
        for field, hours, message in (
            ("begin", {"begin": "24:00", "end": "06:00"}, "such as 22:00 or 06:30"),
            ("end", {"begin": "22:00", "end": 6}, "such as 22:00 or 06:30"),
            ("end", {"begin": "22:00"}, "missing; add it"),
            ("end", {"begin": "22:00", "end": "22:00"}, "it is never quiet then, or always"),
            ("time_zone", {"begin": "22:00", "end": "06:00", "time_zone": "Bern"}, "use a name such as Europe/Zurich"),
        )
    ),
    ("owners is text", attributes(owners="team:a"), "owners", "give a list"),
    ("uri is a number", attributes(source__uri=3), "source.uri", "put it in quotes"),
    ("target is text", attributes(target="rain"), "target", "give fields"),
    ("columns is a list", attributes(columns=["rain"]), "columns", "give fields"),
    ("nullable is text", attributes(columns__rain__nullable="perhaps"), "columns.rain.nullable", "valid boolean"),
    ("max is text", attributes(columns__pressure__max="high"), "columns.pressure.max", "valid number"),
    ("prepare is text", attributes(prepare="all"), "prepare", "give fields"),
    ("drop nulls", attributes(prepare__drop_nulls="perhaps"), "prepare.drop_nulls", "valid boolean"),
    ("drop duplicates", attributes(prepare__drop_duplicates=3), "prepare.drop_duplicates", "valid boolean"),
    ("split is text", attributes(prepare__split="random"), "prepare.split", "give fields"),
    ("split seed", attributes(prepare__split__seed=-1), "prepare.split.seed", "greater than or equal to 0"),
    ("features is a list", attributes(features=["place"]), "features", "give fields"),
    ("train is text", attributes(train="sklearn"), "train", "give fields"),
    ("params is a list", attributes(train__params=[8]), "train.params", "give fields"),
    ("batch size", attributes(train__batch_size=0), "train.batch_size", "greater than or equal to 1"),
    *(
        (f"{field} of an estimator", attributes(**{f"train__{field}": value}), f"train.{field}", "is an estimator, and")
        for field, value in (
            ("epochs", 3),
            ("batch_size", 8),
            ("learning_rate", 0.1),
            ("schedule", "cosine"),
            ("weight_decay", 0.1),
            ("precision", "bfloat16"),
            ("early_stopping", {"patience": 3}),
            ("checkpoint_every", "60s"),
        )
    ),
    (
        "inner estimator",
        attributes(train__params={"estimators": [["a", {"class": "sklearn.smv.SVC"}]]}),
        "train.params.estimators.0.1.class",
        "no module sklearn.smv",
    ),
    ("precision", attributes(train__precision="float16"), "train.precision", "'float32' or 'bfloat16'"),
    ("weight decay", attributes(train__weight_decay=-1), "train.weight_decay", "greater than or equal to 0"),
    ("validation share", attributes(prepare__split__validation=1), "prepare.split.validation", "less than 1"),
    ("dropped share", attributes(prepare__max_dropped=20), "prepare.max_dropped", "less than or equal to 1"),
    (
        "dialect of Parquet",
        attributes(source={"uri": "w/*.parquet", "csv": {"decimal": ","}}),
        "source.csv",
        "Parquet has no dialect",
    ),
    ("dialect is text", attributes(source__csv="excel"), "source.csv", "give fields"),
    ("delimiter", attributes(source__csv={"delimiter": ""}), "source.csv.delimiter", "at least 1 character"),
    ("quote", attributes(source__csv={"quote": "<<"}), "source.csv.quote", "at most 1 character"),
    ("escape", attributes(source__csv={"escape": "<<"}), "source.csv.escape", "at most 1 character"),
    ("decimal mark", attributes(source__csv={"decimal": "'"}), "source.csv.decimal", "'.' or ','"),
    ("thousands mark", attributes(source__csv={"thousands": "."}), "source.csv.thousands", "is the decimal mark"),
    (
        "encoding",
        attributes(source__csv={"encoding": "cp850"}),
        "source.csv.encoding",
        "'utf-8', 'utf-16' or 'latin-1'",
    ),
    ("null texts", attributes(source__csv={"nulls": "NA"}), "source.csv.nulls", "give a list"),
    ("date format", attributes(source__csv={"date_format": ""}), "source.csv.date_format", "at least 2 characters"),
    ("trim", attributes(source__csv={"trim": "perhaps"}), "source.csv.trim", "valid boolean"),
    ("line length", attributes(source__csv={"max_line_bytes": 3}), "source.csv.max_line_bytes", "equal to 1000"),
    ("no positive class", attributes(target__positive=[1]), "target.positive", "is no class; give a number"),
    (
        "a positive class of three",
        attributes(task="multiclass_classification", target__positive=True),
        "target.positive",
        "has no positive class",
    ),
    ("two statements", attributes(target={"column": "t", "from": "rain); DROP TABLE x"}), "target.from", "no SQL"),
    (
        "two expressions",
        attributes(target={"column": "t", "from": "rain) AS a, (rain"}),
        "target.from",
        "more than one",
    ),
    (
        "a subquery",
        attributes(target={"column": "t", "from": "rain > (SELECT 1)"}),
        "target.from",
        "has a subquery; give one expression over the columns of a row",
    ),
    ("a random target", attributes(target={"column": "t", "from": "random() > 0.5"}), "target.from", "at each time"),
    (
        "a target of unknown columns",
        attributes(target={"column": "t", "from": "rian"}),
        "target.from",
        "rian is not among",
    ),
    (
        "names that differ in case",
        attributes(columns__Rain={"type": "number"}),
        "columns",
        "differ in case only; rename one in the source",
    ),
    (
        "a name with a control character",
        {**attributes(), "columns": {**attributes()["columns"], "a\tb": {"type": "number"}}},
        "columns",
        "has control characters",
    ),
    (
        "a time that may be missing",
        attributes(
            source__event_time="time",
            columns__time={"type": "timestamp", "nullable": True},
            prepare__split__by="time",
        ),
        "columns.time.nullable",
        "on no side of a split by time; remove nullable",
    ),
    ("early stopping is on", attributes(train__early_stopping=True), "train.early_stopping", "give fields"),
    (
        "improvement",
        attributes(train__early_stopping={"patience": 3, "min_delta": -1}),
        "train.early_stopping.min_delta",
        "greater than or equal to 0",
    ),
    ("seed of the training", attributes(train__seed=-1), "train.seed", "greater than or equal to 0"),
    ("compute of the training", attributes(train__compute="large"), "train.compute", "give fields"),
    ("cores of the training", attributes(train__compute={"cpu": 0}), "train.compute.cpu", "equal to 0.001"),
    (
        "disk of the training",
        attributes(train__compute={"ephemeral_storage": "9"}),
        "train.compute.ephemeral_storage",
        "Gi",
    ),
    ("start of the training", attributes(train__compute={"start_within": 9}), "train.compute.start_within", "7d"),
    ("retries of the training", attributes(train__compute={"retries": 3}), "train.compute.retries", "give fields"),
    (
        "infrastructure retries of the training",
        attributes(train__compute={"retries": {"infrastructure": -1}}),
        "train.compute.retries.infrastructure",
        "greater than or equal to 0",
    ),
    (
        "code retries of the training",
        attributes(train__compute={"retries": {"code": -1}}),
        "train.compute.retries.code",
        "greater than or equal to 0",
    ),
    ("instance family", attributes(train__compute={"instance_family": "G5!"}), "train.compute.instance_family", "a-z"),
    ("no label", attributes(train__compute={"instance_family": "g5-"}), "train.compute.instance_family", "pattern"),
    ("long family", attributes(train__compute={"instance_family": "g" * 64}), "train.compute.instance_family", "63"),
    (
        "more shared memory than memory",
        attributes(train__compute={"shared_memory": "2Gi", "memory": "512Mi"}),
        "train.compute.shared_memory",
        "2Gi is more than the pod's memory, 512Mi",
    ),
    ("neither yes nor no", attributes(deploy={"explain": "sometimes"}), "deploy.explain", "valid boolean"),
    ("shared memory", attributes(train__compute={"shared_memory": "1GB"}), "train.compute.shared_memory", "(Mi|Gi|Ti)"),
    ("spot", attributes(train__compute={"spot": "often"}), "train.compute.spot", "valid boolean"),
    ("gate is a number", attributes(gate=0.8), "gate", "give fields"),
    ("at most is text", attributes(gate__at_most="all"), "gate.at_most", "valid number"),
    ("margin", attributes(gate__beats_champion_by="much"), "gate.beats_champion_by", "valid number"),
    ("slices is text", attributes(gate__slices="place"), "gate.slices", "give a list"),
    ("retrain is text", attributes(retrain="weekly"), "retrain", "give fields"),
    ("monitor is text", attributes(monitor="daily"), "monitor", "give fields"),
    ("drift above all", attributes(monitor={"drift_threshold": 1.5}), "monitor.drift_threshold", "less than or equal"),
    ("part of a day", attributes(monitor={"window": "36h"}), "monitor.window", "a window is whole days"),
    (
        "window longer than the log",
        attributes(monitor={"window": "30d"}, deploy={"inference_log": {"keep_days": 7}}),
        "monitor.window",
        "the log is kept for 7 days (deploy.inference_log.keep_days); shorten the window, or keep more",
    ),
    ("stale at once", attributes(monitor={"stale_after": "0d"}), "monitor.stale_after", "a number above 0"),
    ("no rows", attributes(monitor={"min_rows": 0}), "monitor.min_rows", "greater than or equal to 1"),
    ("deploy is text", attributes(deploy="soon"), "deploy", "give fields"),
    ("rollout is text", attributes(deploy={"rollout": "canary"}), "deploy.rollout", "give fields"),
    *(
        (f"rollout {field} {value}", attributes(deploy={"rollout": {field: value}}), f"deploy.rollout.{field}", message)
        for field, value, message in (
            ("replay_requests", -1, "greater than or equal"),
            ("replay_requests", 20_000, "less than or equal"),
            ("replay_requests", "all", "integer"),
            ("shadow_requests", -1, "greater than or equal"),
            ("shadow_percent", 0, "greater than 0"),
            ("shadow_percent", 101, "less than or equal"),
            ("canary_requests", 1.5, "integer"),
            ("canary_percent", 60, "less than or equal"),
            ("canary_percent", "10%", "number"),
            ("canary_header", "X-User", "pattern"),
            ("canary_header", 3, "put it in quotes"),
            ("deadline", "1", "duration"),
            ("deadline", "0s", "duration"),
            ("max_error_rate", 1.5, "less than or equal"),
            ("max_error_rate", -0.1, "greater than or equal"),
            ("max_latency_ratio", 0.5, "greater than or equal"),
            ("max_changed", -1, "greater than or equal"),
            ("judge_by_labels", "never", "boolean"),
            ("patience", "soon", "duration"),
            ("too_little_traffic", "wait", "'promote', 'hold' or 'refuse'"),
            ("bake", "1 minute", "duration"),
            ("canary_percents", 10, "canary_percent"),
        )
    ),
    (
        "nothing to wait for",
        attributes(deploy={"rollout": {"shadow_requests": 0, "canary_requests": 0, "too_little_traffic": "hold"}}),
        "deploy.rollout.too_little_traffic",
        "there must be live requests",
    ),
    ("log is text", attributes(deploy={"inference_log": "all"}), "deploy.inference_log", "give fields"),
    ("log rate", attributes(deploy={"inference_log": {"rate": 2}}), "deploy.inference_log.rate", "less than or equal"),
    ("log days", attributes(deploy={"inference_log": {"keep_days": 0}}), "deploy.inference_log.keep_days", "greater"),
    (
        "log for ever",
        attributes(deploy={"inference_log": {"keep_days": 999_999}}),
        "deploy.inference_log.keep_days",
        "less than or equal to 36525",
    ),
    (
        "log leaves out no list",
        attributes(deploy={"inference_log": {"leave_out": "place"}}),
        "deploy.inference_log.leave_out",
        "give a list",
    ),
    (
        "log leaves out what is not asked",
        attributes(deploy={"inference_log": {"leave_out": ["plaec"]}}),
        "deploy.inference_log.leave_out.0",
        "plaec is none of the features (did you mean place?)",
    ),
    (
        "log hashes no list",
        attributes(deploy={"inference_log": {"hash": "place"}}),
        "deploy.inference_log.hash",
        "give a list",
    ),
    (
        "log hashes what is left out",
        attributes(deploy={"inference_log": {"leave_out": ["place"], "hash": ["place"]}}),
        "deploy.inference_log.hash.0",
        "place is left out; remove it from one of the two",
    ),
    *BROKEN_SERVICES,
    ("compute is text", attributes(compute="large"), "compute", "give fields"),
    ("memory of the stages", attributes(compute={"memory": "3G"}), "compute.memory", "(Mi|Gi|Ti)"),
    ("disk of the stages", attributes(compute={"ephemeral_storage": "0Gi"}), "compute.ephemeral_storage", "(Mi|Gi|Ti)"),
    ("start of the stages", attributes(compute={"start_within": "soon"}), "compute.start_within", "such as 60s or 7d"),
    ("retries of the stages", attributes(compute={"retries": 3}), "compute.retries", "give fields"),
    (
        "infrastructure retries of the stages",
        attributes(compute={"retries": {"infrastructure": -1}}),
        "compute.retries.infrastructure",
        "greater than or equal to 0",
    ),
    ("code retries of the stages", attributes(compute={"retries": {"code": -1}}), "compute.retries.code", "equal to 0"),
    *BROKEN_VIEWS,
]


def line_of(given: dict[str, Any]) -> tuple[str, str]:
    """The YAML of these attributes, and the one line that tells what is wrong with it."""
    text = yaml.safe_dump({"type": "mlops_assets.ModelPipeline", "attributes": given}, sort_keys=False)
    parsed = parse_yaml_with_source_position(text, "defs.yaml")
    with pytest.raises(SpecError) as caught:
        load_spec(parsed.value["attributes"], parsed.source_position_tree, "defs.yaml")
    [line] = str(caught.value).splitlines()
    return text, line


def key_in(given: dict[str, Any], field: str) -> str | None:
    """What stands in the YAML at a dotted field: its name, or the item of a list; None where it is not written."""
    found: Any = given
    key = None
    for part in field.split("."):
        try:
            found, key = (found[int(part)], str(found[int(part)])) if part.isdigit() else (found[part], part)
        except KeyError:
            return None
    return key


@pytest.mark.parametrize(("given", "field", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_yaml_gives_one_line_with_file_and_field(given: dict[str, Any], field: str, message: str) -> None:
    _, line = line_of(given)
    place, told, reason = line.split(": ", 2)
    assert told == field
    assert message in reason
    assert place.split(":")[0] == "defs.yaml"


WRITTEN = [(what, given, key) for what, given, field, _ in BROKEN if (key := key_in(given, field))]


@pytest.mark.parametrize(("given", "key"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
def test_the_line_number_is_that_of_the_field(given: dict[str, Any], key: str) -> None:
    text, line = line_of(given)
    number = int(line.split(":")[1])
    assert key in text.splitlines()[number - 1]


def test_every_field_has_a_row_above_and_a_description() -> None:
    named = r"(^columns|from_store|\.features)\.\w+"
    broken = {re.sub(r"\.\d+$", "", re.sub(named, r"\1.NAME", field)) for _, _, field, _ in BROKEN}
    # The dialect of a view's source is that of the source
    known = [field for field in fields() if not re.match(r"features.from_store.NAME.source.csv\.", field.name)]
    assert [field.name for field in known if field.name not in broken] == []
    assert [field.name for field in known if not field.description] == []


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_the_models_that_ship_are_valid(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert load_spec(content["attributes"], None, str(path)).model == path.parent.name


def test_the_smallest_model_takes_less_than_20_lines() -> None:
    assert len((PROJECT / "mlops_assets/defs/iris/defs.yaml").read_text().splitlines()) < 20
