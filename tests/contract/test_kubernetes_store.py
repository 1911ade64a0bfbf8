"""The store `kubernetes` against a fake of the Kubernetes API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import pytest
from fake_kubernetes import FakeKubernetes
from free_ports import free_port
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes import client

from fleet.errors import FleetError, InvalidConfig, NotAllowed, SecretConflict, SecretsUnavailable
from fleet.secrets.kubernetes_store import KubernetesStore, name_of
from fleet.secrets.values import PATH as PATHS

PATH = "agents/coder-1"
NAME = "agent-secrets-coder-1"


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as found:
        yield found


def store_at(url: str) -> KubernetesStore:
    settings = client.Configuration()
    settings.host, settings.retries = url, 0
    return KubernetesStore(None, lambda _: (client.ApiClient(settings), "fleet"))


@pytest.fixture
def store(kubernetes: FakeKubernetes) -> KubernetesStore:
    return store_at(kubernetes.url)


def test_the_client_cannot_send_the_bytes_that_its_type_of_a_secret_takes() -> None:
    made = client.V1Secret(data={"api_key": b"one"})
    with pytest.raises(TypeError):
        json.dumps(client.ApiClient().sanitize_for_serialization(made))


def test_an_agents_secret_has_its_name_and_a_label_and_base64_text(
    store: KubernetesStore, kubernetes: FakeKubernetes
) -> None:
    store.write(PATH, {"api_key": "one", "token": "two"}, 0)
    found = kubernetes.secrets[NAME]
    assert found["data"]["api_key"] == base64.b64encode(b"one").decode()
    assert found["metadata"]["labels"]["app.kubernetes.io/component"] == "agent-secrets"


def test_a_pod_that_mounts_the_secret_sees_the_newest_version_that_is_left(
    store: KubernetesStore, kubernetes: FakeKubernetes
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.write(PATH, {"token": "two"}, 1)
    assert "api_key" not in kubernetes.secrets[NAME]["data"]
    store.destroy(PATH, 2)
    data = kubernetes.secrets[NAME]["data"]
    assert base64.b64decode(data["api_key"]) == b"one"
    assert "token" not in data


def test_more_than_ten_versions_drop_the_oldest(store: KubernetesStore) -> None:
    for expected in range(12):
        store.write(PATH, {"api_key": f"key-{expected}"}, expected)
    assert [each.version for each in store.versions(PATH)] == list(range(3, 13))


def test_a_write_in_between_is_a_conflict_and_not_lost(
    store: KubernetesStore, kubernetes: FakeKubernetes
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    read = kubernetes.read

    def read_and_be_overtaken(path: str) -> tuple[int, dict[str, object]]:
        status, found = read(path)
        answer = json.loads(json.dumps(found))
        kubernetes.read = read  # type: ignore[method-assign]
        store_at(kubernetes.url).write(PATH, {"api_key": "theirs"}, 1)
        return status, answer

    kubernetes.read = read_and_be_overtaken  # type: ignore[method-assign]
    with pytest.raises(SecretConflict):
        store.write(PATH, {"api_key": "ours"}, 1)
    assert store.read(PATH).fields == {"api_key": "theirs"}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(401, NotAllowed), (403, NotAllowed), (500, SecretsUnavailable), (429, SecretsUnavailable)],
)
def test_what_the_cluster_refuses_is_a_typed_error(
    store: KubernetesStore, kubernetes: FakeKubernetes, refusal: int, error: type[FleetError]
) -> None:
    store.write(PATH, {"api_key": "sk-canary"}, 0)
    kubernetes.refusal = refusal
    asks: list[Callable[[], object]] = [
        lambda: store.read(PATH),
        lambda: store.write(PATH, {"api_key": "sk-canary"}, 1),
        lambda: store.destroy(PATH, 1),
        store.paths,
    ]
    for ask in asks:
        with pytest.raises(error, match="in namespace fleet") as refused:
            ask()
        assert "canary" not in str(refused.value)


def test_a_cluster_that_does_not_answer_is_away() -> None:
    with pytest.raises(SecretsUnavailable, match="does not answer"):
        store_at(f"http://127.0.0.1:{free_port()}").paths()


def test_a_secret_that_somebody_else_made_is_not_taken(
    store: KubernetesStore, kubernetes: FakeKubernetes
) -> None:
    kubernetes.secrets[NAME] = {
        "metadata": {"name": NAME, "labels": {}, "resourceVersion": "7"},
        "data": {"api_key": "b25l"},
    }
    with pytest.raises(InvalidConfig, match="somebody else made it"):
        store.write(PATH, {"api_key": "one"}, 0)
    assert store.paths() == []


@pytest.mark.parametrize(
    "kept", ["[]", "{", '{"epoch": 1}', '{"epoch": 1, "fields": {"a": 1}}', "\u00e9"]
)
def test_a_secret_that_was_altered_is_said(
    store: KubernetesStore, kubernetes: FakeKubernetes, kept: str
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    kubernetes.secrets[NAME]["data"]["v1.json"] = base64.b64encode(kept.encode("latin-1")).decode()
    with pytest.raises(InvalidConfig, match="was altered"):
        store.read(PATH)


paths = st.from_regex(PATHS, fullmatch=True)


@given(paths, paths)
@example("agents/a", "a")
@example("agents/a-b", "agents/a_b")
@example("providers/openai", "providers-openai")
@example("agents/providers-openai-6fd49f36539a", "providers/openai")
def test_no_two_paths_share_a_name_that_kubernetes_takes(one: str, two: str) -> None:
    assert (name_of(one) == name_of(two)) == (one == two)
    assert len(name_of(one)) <= 253
    assert name_of(one).replace("-", "").isalnum()


