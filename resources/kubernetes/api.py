"""This process's connection to the Kubernetes API, which outlasts an API server that is away for a while."""

from __future__ import annotations

import contextlib
import json
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import ApiException

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
# EKS takes its API server away for up to a minute when it scales or upgrades it: 0, 2, 4, 8 s, then 10 s each, 124 s
TRIES, LONGEST_PAUSE_S = 15, 10
ANSWER_WITHIN_S = (10, 60)  # to connect, and to answer
LOG_WITHIN_S = (3, 5)
AWAY = (429, 500, 502, 503, 504)


def in_cluster() -> str:
    """Talk to the API server as this pod's service account; its namespace.

    Raises:
        DeploymentError: this is no pod, or one without a token.
    """
    from kubernetes.config import ConfigException, load_incluster_config

    try:
        load_incluster_config()
    except ConfigException as error:
        what = "This process is in no pod of the cluster, so it cannot ask Kubernetes"
        raise DeploymentError(what, remedy="start the job in Dagster's UI, whose steps are pods") from error
    return Path(NAMESPACE_FILE).read_text().strip()


@cache
def api_client() -> Any:
    """The client of the API server that this process is configured for, with its pool of connections.

    A request that an API server which is away or overloaded did not answer is sent again, for about two minutes. One
    that creates something is so only when it did not get there: see `created`.
    """
    from kubernetes import client as untyped
    from urllib3 import Retry

    client: Any = untyped

    class PatientClient(client.ApiClient):
        """Waits for an answer, and not for ever; a log that is followed may be silent for hours."""

        def request(
            self, *args: Any, _preload_content: bool = True, _request_timeout: Any = None, **options: Any
        ) -> Any:
            timeout = _request_timeout or (ANSWER_WITHIN_S if _preload_content else None)
            return super().request(*args, _preload_content=_preload_content, _request_timeout=timeout, **options)

    configuration = client.Configuration.get_default_copy()
    configuration.retries = Retry(
        total=TRIES, backoff_factor=1, backoff_max=LONGEST_PAUSE_S, status_forcelist=AWAY, raise_on_status=False
    )
    return PatientClient(configuration)


@cache
def log_client() -> Any:
    """A client for what pods write, which has no patience.

    The API server asks the kubelet of the pod's node for it. Of a node that hangs there is no answer, and who waits for
    one does not see what becomes of the step.
    """
    from kubernetes import client as untyped

    client: Any = untyped
    configuration = client.Configuration.get_default_copy()
    configuration.retries = False
    return client.ApiClient(configuration)


def is_away(error: Exception) -> bool:
    """Whether an error tells that the API server was away for as long as requests are repeated."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    return isinstance(error, HTTPError) or (isinstance(error, ApiException) and error.status in AWAY)


def reason_of(error: ApiException) -> str:
    """What the API server says of what it refuses; something before it, such as a proxy, may answer without JSON."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return json.loads(error.body or "")["message"]
    return str(error.reason)


def dagster_apis() -> dict[str, Any]:
    """The APIs of Jobs and pods for dagster-k8s, over the same connection.

    dagster-k8s takes a Job whose creation was done and not answered for one that was there before, and gives up.
    """
    from kubernetes import client as untyped

    client: Any = untyped

    class Jobs(client.BatchV1Api):
        def create_namespaced_job(self, namespace: str, body: Any, **options: Any) -> None:
            make, read = super().create_namespaced_job, self.read_namespaced_job
            created(lambda: make(namespace, body, **options), lambda: read(body.metadata.name, namespace))

    return {"k8s_client_batch_api": Jobs(api_client()), "k8s_client_core_api": client.CoreV1Api(api_client())}


def created(create: Callable[[], object], present: Callable[[], Any]) -> None:
    """Create something, though answers are lost: what is `present` after a failed try is what that try has made.

    Raises:
        ApiException: the API server refuses it, or it was there before.
        urllib3.exceptions.HTTPError: the API server was away all the time.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError, MaxRetryError

    for number in range(TRIES):
        try:
            create()
        except MaxRetryError:
            raise  # the connection has tried for as long as it may already
        except (ApiException, HTTPError) as error:
            status = error.status if isinstance(error, ApiException) else None
            if status == 409 and number > 0 and present() is not None:
                return
            if (status is not None and status not in AWAY) or number == TRIES - 1:
                raise
            time.sleep(min(2.0**number, LONGEST_PAUSE_S))
        else:
            return
