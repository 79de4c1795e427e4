"""Whether this machine, and what it talks to, can be used: a line for each thing, with a remedy where it cannot.

Each look ends after `LIMIT_S` at the latest. Nothing is changed but for one small object in the lake, which is deleted
again, and no line has a password: texts of others are searched for those of the environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlops_assets.cli.servers import local_servers, state_of
from mlops_assets.ml.errors import MlopsError
from resources.environment import Environment, user_name
from resources.lake.stores import scheme_of
from resources.local.background_server import port_is_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from resources.local.background_server import BackgroundServer

LIMIT_S = 45.0
GIB = 2**30
FULL, NEARLY_FULL = 1 * GIB, 10 * GIB
CLOCK_WARN_S, CLOCK_FAIL_S = 30, 300  # S3 refuses requests that are 15 minutes off
UI_PORT = 3000
SECRET_NAMES = re.compile("PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL|API_KEY", re.IGNORECASE)

Status = Literal["OK", "WARN", "FAIL"]


class Finding(NamedTuple):
    """What was found out about one thing."""

    status: Status
    what: str
    remedy: str = ""


def diagnose(variables: Mapping[str, str] = os.environ, limit_s: float = LIMIT_S) -> Iterator[tuple[str, Finding]]:
    """Name and finding of each thing that is looked at, one after the other."""
    looks: list[tuple[str, Callable[[], Finding]]] = [("python", _python), ("packages", _packages)]
    environment: Environment | None = None
    try:
        environment = Environment.read(variables)
    except MlopsError as error:
        failed = Finding("FAIL", _without_secrets(error.what, variables), error.remedy)
        looks.append(("environment", lambda: failed))
    if environment is not None:
        known = environment
        looks.append(("disk", lambda: _disk(known.home)))
        looks += [(f"port of {server.name}", partial(_port, server)) for server in local_servers(known)]
        looks += [("port of the UI", _ui_port), ("space", lambda: _space(known, variables))]
        looks += [("lake", lambda: _lake(known)), ("mlflow", lambda: _mlflow(known))]
        looks += [("models", lambda: _models(known)), ("clock", lambda: _clock(known))]
    looks += [("gpu", _gpu), ("dagster", lambda: _dagster(variables))]
    for name, look in looks:
        found = _within(limit_s, look)
        yield name, found._replace(what=_without_secrets(found.what, variables))


def _within(limit_s: float, look: Callable[[], Finding]) -> Finding:
    """The finding of `look`; a failure where it raises, or does not end in time."""
    found = [Finding("FAIL", f"no answer in {limit_s:.0f} s", "look at the network, and at what it should reach")]

    def run() -> None:
        try:
            found.append(look())
        except MlopsError as error:
            found.append(Finding("FAIL", f"{error.where}: {error.what}" if error.where else error.what, error.remedy))
        except OSError as error:
            told = f"{error.filename or type(error).__name__}: {error.strerror or error}"
            found.append(Finding("FAIL", told, "correct it, or set MLOPS_HOME to a folder of your own"))
        except Exception as error:
            said = str(error).strip().splitlines()
            found.append(Finding("FAIL", f"{type(error).__name__}: {said[0] if said else ''}"))

    thread = threading.Thread(target=run, daemon=True)  # what hangs does not keep the program from ending
    thread.start()
    thread.join(limit_s)
    return found[-1]


def _without_secrets(text: str, variables: Mapping[str, str]) -> str:
    text = re.sub(r"://[^/@\s]+@", "://***@", text)
    for name, value in variables.items():
        if SECRET_NAMES.search(name) and len(value) >= 6:
            text = text.replace(value, "***")
    return text


def _python() -> Finding:
    from packaging.specifiers import SpecifierSet

    version = ".".join(map(str, sys.version_info[:3]))
    wanted = _metadata("Requires-Python") or ">=3.11,<3.14"
    if version not in SpecifierSet(wanted):
        return Finding("FAIL", f"Python {version}, wanted {wanted}", "make setup PYTHON=python3.11")
    return Finding("OK", f"Python {version}, {sys.executable}")


def _packages() -> Finding:
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("mlops-assets") or ()]
    except importlib.metadata.PackageNotFoundError:
        return Finding("WARN", "mlops-assets is not installed, so its requirements are not known", "run make setup")
    needed = [requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate()]
    wrong = list[str]()
    for requirement in needed:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, wanted {requirement.specifier}")
    if wrong:
        return Finding("FAIL", "; ".join(wrong), "run make setup, which installs what requirements.lock says")
    main = ("dagster", "mlflow", "torch", "scikit-learn", "onnxruntime", "duckdb")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in main)
    return Finding("OK", f"{len(needed)} packages have the versions that are wanted: {versions}, ...")


def _metadata(key: str) -> str | None:
    try:
        return importlib.metadata.metadata("mlops-assets")[key]
    except importlib.metadata.PackageNotFoundError:
        return None


def _disk(home: Path) -> Finding:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding("FAIL", f"{there} may not be written", "correct its owner, or set MLOPS_HOME to another folder")
    free = shutil.disk_usage(there).free
    what = f"{free / GIB:.1f} GiB free for MLOPS_HOME, {home}"
    if free < NEARLY_FULL:
        return Finding("FAIL" if free < FULL else "WARN", what, "make room, or set MLOPS_HOME to another disk")
    return Finding("OK", what)


def _port(server: BackgroundServer) -> Finding:
    if server.pid() is not None:
        if server.answers():
            return Finding("OK", f"our {server.name} {state_of(server)}")
        return Finding(
            "WARN", f"our {server.name} {state_of(server)}", f"wait until it has started, or see {server.log}"
        )
    if port_is_taken(server.port):
        remedy = f"stop that, or choose another port by {server.name.upper()}_PORT"
        return Finding("FAIL", f"{server.port} is taken by another program", remedy)
    return Finding("OK", f"{server.port} is free; {server.name} is started when it is needed")


def _ui_port() -> Finding:
    if not port_is_taken(UI_PORT):
        return Finding("OK", f"{UI_PORT} is free for make dev")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{UI_PORT}/server_info", timeout=5) as answer:
            if b"dagster" in answer.read(10_000):
                return Finding("OK", f"a Dagster UI answers at http://127.0.0.1:{UI_PORT}")
    except OSError:
        pass
    return Finding("WARN", f"{UI_PORT} is taken by another program", "stop that, or give dagster dev another port: -p")


def _space(environment: Environment, variables: Mapping[str, str]) -> Finding:
    space = environment.space
    if not environment.owns_space:
        return Finding("OK", "production's, to look at; unset MLOPS_SPACE to have one of your own")
    if not space:
        return Finding("OK", "production's" if environment.production else "none is needed, nothing is shared")
    if not variables.get("MLOPS_SPACE") and user_name() in ("root", f"uid{os.getuid()}"):
        return Finding("WARN", f"{space}, by a user name that others may have", "set MLOPS_SPACE to a name of your own")
    return Finding("OK", space)


def _lake(environment: Environment) -> Finding:
    store, key, content = environment.lake().store, f"doctor/{uuid.uuid4().hex}.json", uuid.uuid4().hex.encode()
    try:
        first, second = store.create(key, content), store.create(key, b"another")
        kept = store.read(key)
    finally:
        store.delete(key)
    if not first or second or kept != content:
        what = f"{environment.lake_uri} does not keep the first of two writers of one object"
        return Finding(
            "FAIL", what, "use a store with conditional writes (If-None-Match), such as S3 or a local folder"
        )
    return Finding("OK", f"{environment.lake_uri} can be written, and what is there is not overwritten")


def _mlflow(environment: Environment) -> Finding:
    if environment.mlflow_uri is None:
        return Finding("OK", "the one of this machine is used (MLFLOW_TRACKING_URI is not set)")
    from resources.tracking.mlflow_errors import translated_errors
    from resources.tracking.mlflow_tracking import Tracking

    _date(environment.mlflow_uri)  # soon told when nobody is there; MLflow's client tries for longer
    tracking = Tracking(uri=environment.mlflow_uri, lake=environment.lake())
    try:
        with translated_errors(tracking.address):
            tracking.client.search_experiments(max_results=1)
    except MlopsError as error:
        return Finding("FAIL", error.what, error.remedy.partition(". Nothing")[0])
    login = " with the login of the environment" if os.environ.get("MLFLOW_TRACKING_USERNAME") else ""
    return Finding("OK", f"{environment.mlflow_uri} answers{login}")


def _models(environment: Environment) -> Finding:
    from mlops_assets.components.defined_models import defined_models
    from resources.serving.choose_target import serving_target

    if environment.production:
        return Finding("OK", "what the cluster serves is not looked at from here")
    lake = environment.lake()
    defined, served = defined_models(), lake.models_of(serving_target(environment, lake).served())
    orphans = [name for name in served if name not in defined]
    if orphans:
        what = f"{', '.join(orphans)}: served, and no YAML defines it any more"
        return Finding("WARN", what, f"mlops-assets retire {orphans[0]} --reason TEXT, or bring its YAML back")
    return Finding("OK", f"{len(defined)} defined, {len(served)} served")


def _clock(environment: Environment) -> Finding:
    addresses = [environment.mlflow_uri] if environment.mlflow_uri else []
    if scheme_of(environment.lake_uri) == "s3":
        addresses.append(environment.s3_endpoint_url or "https://s3.amazonaws.com")
    differences = dict[str, float]()
    for address in addresses:
        try:
            there = _date(address)
        except MlopsError:
            continue  # told by the look at the lake and at MLflow
        if there is not None:
            differences[address] = abs((datetime.now(UTC) - there).total_seconds())
    if not differences:
        return Finding(
            "OK", "nothing remote is used that tells the time" if not addresses else "no server told the time"
        )
    address, difference = max(differences.items(), key=lambda item: item[1])
    what = f"{difference:.0f} s from that of {address}"
    if difference > CLOCK_WARN_S:
        return Finding("FAIL" if difference > CLOCK_FAIL_S else "WARN", what, "set the clock, by NTP")
    return Finding("OK", what)


def _date(address: str) -> datetime | None:
    """The time that a server tells, whatever its answer is."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10) as answer:
            headers: Any = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MlopsError(
            f"{address} cannot be reached ({reason})", remedy="start it, or correct the address"
        ) from error
    return parsedate_to_datetime(headers["Date"]) if headers["Date"] else None


def _gpu() -> Finding:
    try:
        import torch
    except ModuleNotFoundError:
        return Finding("OK", "torch is not installed: this is the place of stages that train no network")
    if not torch.cuda.is_available():
        return Finding("OK", "none was found; trainings use the CPU")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("OK", ", ".join(names))


def _dagster(variables: Mapping[str, str]) -> Finding:
    from mlops_assets.components.dagster_storage import dagster_storage

    home = variables.get("DAGSTER_HOME")
    if not home:
        remedy = "export DAGSTER_HOME=$PWD/.mlops/dagster, the folder that make dev uses"
        return Finding("WARN", "DAGSTER_HOME is not set: runs leave no trace, and the UI does not show them", remedy)
    if not Path(home).is_absolute() or not Path(home).is_dir():
        return Finding("FAIL", f"DAGSTER_HOME, {home}, is no folder with an absolute path", f"mkdir -p {home}")
    began = time.monotonic()
    with dagster_storage(home) as instance:
        runs = instance.get_runs_count()
    return Finding("OK", f"{runs} runs in {home}, opened in {time.monotonic() - began:.1f} s")
