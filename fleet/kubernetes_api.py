"""The API of a Kubernetes cluster: how it is reached, and its errors as Fleet's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from fleet.errors import InvalidConfig, NotAllowed, Unavailable

TIMEOUT = (2.0, 5.0)
"""Seconds to connect, and to wait for an answer."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect_api(key: str) -> tuple[client.ApiClient, str]:
    """The API of this pod's service account, else that of the kubeconfig (KUBECONFIG), and the
    namespace that goes with it.

    Raises `InvalidConfig` if there is neither. `key` is the setting that needs the cluster.
    """
    settings = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(settings)
            own = (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        else:
            # The client itself reads the variable when it is imported.
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(file, client_configuration=settings, persist_config=False)
            _, context = config.list_kube_config_contexts(file)
            own = context["context"].get("namespace", "default")
    except (ConfigException, OSError) as error:
        raise InvalidConfig(
            f"{key}: the cluster is not known ({error}); run the process in a pod with a service "
            "account, or name a kubeconfig in KUBECONFIG"
        ) from error
    # The callers try again themselves.
    settings.retries = 0
    return client.ApiClient(settings), own


def or_none(ask: Callable[[], Any]) -> Any:
    """The answer. None if there is no such object."""
    try:
        return ask()
    except ApiException as error:
        if error.status == 404:
            return None
        raise


@contextmanager
def kubernetes_errors(
    what: str, namespace: str, rights: str, away: type[Unavailable] = Unavailable
) -> Iterator[None]:
    """Translate the client's errors: `NotAllowed`, which names the missing `rights`, or `away`.

    None of the client's texts is passed on: headers may hold a token.
    """
    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise NotAllowed(
                f"Kubernetes does not allow the fleet to {what} in namespace {namespace}; give its "
                f"service account the Role of the chart: {rights}"
            ) from None
        raise away(
            f"Kubernetes could not {what} in namespace {namespace} (status {error.status}); try "
            "again later"
        ) from None
    except urllib3.exceptions.HTTPError as error:
        raise away(
            f"Kubernetes does not answer ({type(error).__name__}), so the fleet could not {what}; "
            "try again later"
        ) from None
    except pydantic.ValidationError as error:
        raise away(
            f"the Kubernetes client cannot read the answer to: {what} ({error.error_count()} "
            "fields differ from its schema); use a cluster of a version that it supports"
        ) from None
