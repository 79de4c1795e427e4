"""Where things run: the one place that reads environment variables."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import Value
from resources.lake.space import space_of, space_of_user
from resources.local.background_server import BackgroundServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resources.lake.lake import Lake

NEEDED_IN_PRODUCTION = ("LAKE_URI", "MLFLOW_TRACKING_URI", "MLOPS_PREDICTOR_IMAGE", "MLOPS_TRAINER_IMAGE")
PORTS = {"MLFLOW_PORT": 5005, "SERVING_PORT": 8085, "EXPORTER_PORT": 9105, "MLOPS_FEATURES_PORT": 8087}
PROJECT = Path(__file__).resolve().parent.parent


class Environment(Value):
    """The embedded platform of one machine, or the addresses of shared systems where variables name them."""

    home: Path
    lake_uri: str
    s3_endpoint_url: str | None
    mlflow_uri: str | None
    mlflow_port: int
    serving_port: int
    exporter_port: int
    predictor_image: str | None = None
    trainer_image: str | None = None
    predictor_replicas: int = 2
    serving_operator: Literal["kserve", "seldon"] = "kserve"
    serving_grpc_port: int | None = None
    serving_max_body_mib: int = 8
    serving_max_rows: int = 100_000
    serving_url: str | None = None
    namespace: str | None = None
    space: str = ""  # whose handles, ledgers, models and endpoints these are; production's has no name
    owns_space: bool = True
    prefix: str = ""
    queue: str | None = None
    alert_webhook: SecretStr | None = None
    alert_mail: SecretStr | None = None
    mlflow_ui_url: str | None = None
    features_database: SecretStr | None = None  # the online store is embedded where there is none
    features_port: int = 8087
    features_grpc_port: int | None = None
    prometheus_url: str | None = None
    gateway: str | None = None
    models: frozenset[str] = frozenset()  # the code location loads these alone; all where there are none

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Environment:
        """The environment that MLOPS_* and the usual variables of MLflow and AWS describe."""
        _refuse_spaces(variables)
        name = variables.get("MLOPS_ENV") or "local"  # an empty variable is one that is not set
        if name not in ("local", "production"):
            raise SpecError(f"MLOPS_ENV is {name!r}", remedy="set it to local (or not at all) or production")
        if name == "production":
            missing = [needed for needed in NEEDED_IN_PRODUCTION if not variables.get(needed)]
            if missing:
                raise SpecError(f"MLOPS_ENV is production, which needs {', '.join(missing)} in the environment too")
        home = Path(variables.get("MLOPS_HOME") or PROJECT / ".mlops").absolute()
        ports = {variable: _port(variables, variable, default) for variable, default in PORTS.items()}
        for one, other in combinations(ports, 2):
            if ports[one] == ports[other]:
                raise SpecError(f"{one} and {other} are both {ports[one]}", remedy="give each its own")
        embedded = str(home / "lake")
        lake_uri, mlflow_uri = variables.get("LAKE_URI") or embedded, variables.get("MLFLOW_TRACKING_URI") or None
        is_shared = name == "local" and (lake_uri != embedded or mlflow_uri is not None)
        own_space = space_of_user(user_name()) if is_shared else ""
        space = space_of(variables["MLOPS_SPACE"]) if variables.get("MLOPS_SPACE") else own_space
        return cls(
            home=home,
            lake_uri=lake_uri,
            s3_endpoint_url=_web_address(variables, "AWS_ENDPOINT_URL_S3"),
            mlflow_uri=_web_address(variables, "MLFLOW_TRACKING_URI"),
            mlflow_ui_url=_web_address(variables, "MLFLOW_UI_URL"),
            mlflow_port=ports["MLFLOW_PORT"],
            serving_port=ports["SERVING_PORT"],
            exporter_port=ports["EXPORTER_PORT"],
            predictor_image=_image(variables, "MLOPS_PREDICTOR_IMAGE") if name == "production" else None,
            trainer_image=_image(variables, "MLOPS_TRAINER_IMAGE") if name == "production" else None,
            serving_operator=_serving_operator(variables),
            predictor_replicas=_positive(variables, "MLOPS_PREDICTOR_REPLICAS", 2, "how many pods serve a model"),
            serving_grpc_port=_port_if_given(variables, "SERVING_GRPC_PORT"),
            serving_max_body_mib=_positive(variables, "SERVING_MAX_BODY_MIB", 8, "the MiB of the largest request"),
            serving_max_rows=_positive(variables, "SERVING_MAX_ROWS", 100_000, "the most rows of a request"),
            serving_url=_serving_url(variables.get("SERVING_URL") or None),
            namespace=variables.get("MLOPS_NAMESPACE") or None,
            space=space,
            owns_space=bool(space) or not is_shared,
            prefix=cluster_prefix(variables),
            queue=_queue(variables.get("MLOPS_QUEUE") or None),
            alert_webhook=_webhook(variables.get("MLOPS_ALERT_WEBHOOK") or None),
            alert_mail=_mail(variables.get("MLOPS_ALERT_MAIL") or None),
            features_database=_database(variables.get("MLOPS_FEATURES_DATABASE") or None),
            gateway=_gateway(variables.get("MLOPS_GATEWAY") or None),
            prometheus_url=_web_address(variables, "MLOPS_PROMETHEUS_URL"),
            features_port=ports["MLOPS_FEATURES_PORT"],
            features_grpc_port=_port_if_given(variables, "MLOPS_FEATURES_GRPC_PORT"),
            models=frozenset(name.strip() for name in variables.get("MLOPS_MODELS", "").split(",") if name.strip()),
        )

    @property
    def production(self) -> bool:
        """Whether this is a cluster: a pod for each step, and models served by KServe or Seldon."""
        return self.predictor_image is not None

    @property
    def state(self) -> Path:
        """Pid, log and lock of the MLflow server."""
        return self.home / "run"

    def lake(self) -> Lake:
        """The lake as this environment's space sees it, with its cache on this machine."""
        from resources.lake.lake import Lake

        return Lake(
            uri=self.lake_uri,
            cache=str(self.home / "cache"),
            endpoint_url=self.s3_endpoint_url,
            space=self.space,
            owns_space=self.owns_space,
        )

    @property
    def features(self) -> Path:
        """The embedded online store."""
        return self.home / "features"

    @property
    def mlflow_database(self) -> Path:
        """The SQLite database of the embedded MLflow server."""
        return self.home / "mlflow" / "mlflow.db"

    def mlflow_server(self) -> BackgroundServer:
        """The embedded MLflow server: SQLite, artifacts in a folder, this machine only."""
        folder = self.mlflow_database.parent
        command = [sys.executable, "-m", "resources.tracking.mlflow_server", "--port", str(self.mlflow_port)]
        command += ["--database", str(self.mlflow_database), "--artifacts", str(folder / "artifacts")]
        return BackgroundServer(
            self.state, "mlflow", self.mlflow_port, "/health", command, {"PYTHONPATH": str(PROJECT)}
        )


def cluster_prefix(variables: Mapping[str, str] = os.environ) -> str:
    """What the names of this environment's priority classes begin with, where several share a cluster.

    Raises:
        SpecError: Kubernetes' names cannot begin like that.
    """
    prefix = variables.get("MLOPS_PREFIX") or ""
    if not re.fullmatch(r"([a-z0-9][a-z0-9-]{0,30})?", prefix):
        raise SpecError(f"MLOPS_PREFIX is {prefix!r}", remedy="give small letters, digits and hyphens, such as team-b-")
    return prefix


def user_name() -> str:
    """Who works here, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container they may have no name
        return f"uid{os.getuid()}"


def git_commit(variables: Mapping[str, str] = os.environ) -> str:
    """The commit of the code, `+changes` where the work tree differs from it, or `unknown`; an image knows its own."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    if variables.get("MLOPS_REVISION"):
        return variables["MLOPS_REVISION"]
    try:
        commit, changes = git("rev-parse", "HEAD").strip(), git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changes else commit


def _refuse_spaces(variables: Mapping[str, str]) -> None:
    """Secrets and files that `echo` made end with a line's end, which no address and no password means."""
    ours = re.compile("(MLOPS|MLFLOW|SERVING|EXPORTER)_.*|LAKE_URI|AWS_ENDPOINT_URL_S3")
    if wrong := sorted(name for name, text in variables.items() if ours.fullmatch(name) and text != text.strip()):
        what = f"{', '.join(wrong)} begins or ends with a space or a line's end"
        raise SpecError(what, remedy="take it away; a Secret that is made with echo wants echo -n")


def _web_address(variables: Mapping[str, str], name: str) -> str | None:
    """An address of HTTP, which is shown in links and messages."""
    address = variables.get(name) or None
    if address and "@" in urlsplit(address).netloc:
        what = f"{name} holds a login, which every link to it would show"
        raise SpecError(what, remedy="take it out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    if address and not re.match(r"https?://[^\s/:]+(:[0-9]+)?(/|$)", address):
        raise SpecError(f"{name} is {address!r}", remedy="give an address such as https://mlflow.example.com")
    return address


def _image(variables: Mapping[str, str], name: str) -> str:
    """The name of an image and its version: without one, nodes and runs would have different ones side by side."""
    image = variables[name]
    if not re.fullmatch(r"[^\s@]+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})", image):
        raise SpecError(
            f"{name} is {image!r}, which names no version", remedy=f"give a tag or a digest, as in {image}:1"
        )
    return image


def _serving_operator(variables: Mapping[str, str]) -> Literal["kserve", "seldon"]:
    match variables.get("SERVING_OPERATOR") or "kserve":
        case "kserve" | "seldon" as known:
            return known
        case other:
            raise SpecError(f"SERVING_OPERATOR is {other!r}", remedy="set it to kserve (or not at all) or seldon")


def _serving_url(pattern: str | None) -> str | None:
    if pattern and "{service}" not in pattern:
        what = f"SERVING_URL is {pattern!r}, and each model has a service of its own"
        raise SpecError(what, remedy="write {service} where its name stands, as in https://{service}.example.com")
    if pattern and not re.fullmatch(r"https?://([^\s{}]|\{service\}|\{namespace\})+", pattern):
        what = f"SERVING_URL is {pattern!r}"
        raise SpecError(what, remedy="give an address with {service} and {namespace} alone, with https:// or http://")
    return pattern


def _queue(name: str | None) -> str | None:
    if name and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", name):
        what = f"MLOPS_QUEUE is {name!r}, which no LocalQueue can be called"
        raise SpecError(what, remedy="give the name of the LocalQueue in this environment's namespace")
    return name


def _gateway(name: str | None) -> str | None:
    if name and not re.fullmatch(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)?", name):
        what = f"MLOPS_GATEWAY is {name!r}, which names no Gateway"
        raise SpecError(what, remedy="give namespace/name, or namespace/name/listener, as in gateways/public/https")
    return name


def _webhook(url: str | None) -> SecretStr | None:
    # Whoever knows the address can write there, so no message shows it
    if url and not re.match(r"https?://[\w.-]+(:\d+)?(/\S*)?$", url):
        raise SpecError("MLOPS_ALERT_WEBHOOK is no address of HTTP", remedy="give all of it, as in https://host/path")
    return SecretStr(url) if url else None


def _mail(url: str | None) -> SecretStr | None:
    # It has a password, so no message shows it
    wanted = r"smtps?://([^\s/?#@]+@)?[\w.-]+(:\d+)?/?\?from=[^\s&@]+@[^\s&]+&to=[^\s&@]+@[^\s&]+"
    if url and not re.fullmatch(wanted, url):
        remedy = "give smtps://user:password@host:465/?from=mlops@example.com&to=team@example.com"
        raise SpecError("MLOPS_ALERT_MAIL is no address of a mail server", remedy=remedy)
    return SecretStr(url) if url else None


def _database(address: str | None) -> SecretStr | None:
    # It holds a password, so no message shows it
    if address and not re.fullmatch(r"postgresql://[^\s:@/]+:[^\s@/]+@[\w.-]+(:[0-9]+)?/[\w-]+", address):
        remedy = "give all of it, as in postgresql://user:password@host:5432/features, with %XX for other characters"
        raise SpecError("MLOPS_FEATURES_DATABASE is no address of a PostgreSQL database", remedy=remedy)
    return SecretStr(address) if address else None


def _positive(variables: Mapping[str, str], name: str, default: int, what: str) -> int:
    text = variables.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise SpecError(f"{name} is {text!r}", remedy=f"give {what}, 1 or more")
    return int(text)


def _port_if_given(variables: Mapping[str, str], name: str) -> int | None:
    return _port(variables, name) if variables.get(name) else None


def _port(variables: Mapping[str, str], name: str, default: int = 0) -> int:
    text = variables.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SpecError(f"{name} is {text!r}", remedy="give a port from 1 to 65535")
    return int(text)
