"""The keys of messages: two kinds, several valid versions, and stores that are away."""

from __future__ import annotations

import pytest
from signed_messages import (
    ED25519,
    HMAC,
    KeyStore,
    check_of,
    keys_of,
    refusal,
    signer_of,
    submitted,
)

from fleet.errors import InvalidConfig, NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.secrets.rotator import Turn, installed_rotators, make_rotator
from fleet.secrets.secrets import Secrets
from fleet.secrets.signing_keys import (
    AWAY_SECONDS,
    MAX_VERSIONS,
    REFRESH_SECONDS,
    ensure_key,
    new_key,
    signing_key,
)
from fleet.settings import parse_config
from fleet.settings.messages import SIGNING_PATH as PATH


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_previous_key_is_accepted_until_it_is_destroyed() -> None:
    store, clock = KeyStore(HMAC), Clock()
    check = check_of(keys_of(store, monotonic=clock))
    old = submitted(signer_of(keys_of(store)))
    assert refusal(check, old) == ""
    store.write("", new_key("hmac"), 1)
    new = submitted(signer_of(keys_of(store)))
    assert new["headers"]["fleet_signature"]["key"] == "2"
    clock.now += 1
    assert refusal(check, new) == "", "a version that is new to the worker is read"
    assert refusal(check, old) == ""
    store.destroy("", 1)
    clock.now += REFRESH_SECONDS
    assert "key '1'" in refusal(check, old)
    assert refusal(check, new) == ""


def test_a_version_that_does_not_sign_yet_is_accepted() -> None:
    store = KeyStore(HMAC, new_key("hmac"))
    check = check_of(keys_of(store, current=1))
    assert refusal(check, submitted(signer_of(keys_of(store, current=1)))) == ""
    assert refusal(check, submitted(signer_of(keys_of(store, current=2)))) == ""


def test_a_key_of_one_kind_follows_one_of_the_other() -> None:
    store = KeyStore(HMAC, ED25519)
    check = check_of(keys_of(store))
    assert refusal(check, submitted(signer_of(keys_of(store, "hmac", current=1)))) == ""
    assert refusal(check, submitted(signer_of(keys_of(store, "ed25519", current=2)))) == ""


def test_messages_with_unknown_keys_do_not_have_the_store_read_each_time() -> None:
    store, clock = KeyStore(HMAC), Clock()
    check = check_of(keys_of(store, monotonic=clock))
    message = submitted(signer_of(keys_of(store)))
    for number in range(100):
        message["headers"]["fleet_signature"]["key"] = f"unknown-{number}"
        assert refusal(check, message)
    assert store.reads == 1


def test_the_known_keys_stay_in_use_while_the_store_is_away() -> None:
    store, clock = KeyStore(HMAC), Clock()
    check = check_of(keys_of(store, monotonic=clock))
    message = submitted(signer_of(keys_of(store)))
    assert refusal(check, message) == ""
    store.away = True
    clock.now += 2 * REFRESH_SECONDS
    assert refusal(check, message) == ""
    reads = store.reads
    store.away = False
    clock.now += REFRESH_SECONDS
    assert refusal(check, message) == ""
    assert store.reads == reads, "it waits longer for a store that was away"
    clock.now += AWAY_SECONDS
    assert refusal(check, message) == ""
    assert store.reads == reads + 1


def test_a_process_that_never_read_a_key_says_so() -> None:
    store = KeyStore(HMAC)
    store.away = True
    with pytest.raises(SecretsUnavailable):
        keys_of(store).load()
    with pytest.raises(SecretNotFound, match="messages/signing"):
        keys_of(KeyStore()).load()


def test_a_process_with_the_public_key_alone_signs_nothing() -> None:
    keys = keys_of(KeyStore({"public_key": ED25519["public_key"]}), "ed25519")
    with pytest.raises(NotAllowed, match="private_key"):
        keys.current()


def test_a_key_of_another_kind_than_the_configured_one_signs_nothing() -> None:
    with pytest.raises(InvalidConfig, match="hmac key"):
        keys_of(KeyStore(HMAC), "ed25519").current()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key": "short"},
        {"private_key": "no base64!"},
        {"public_key": "AAAA"},
        {**ED25519, "public_key": new_key("ed25519")["public_key"]},
    ],
    ids=["nothing", "a short key", "no base64", "too few bytes", "no pair"],
)
def test_what_is_no_key_is_described_without_its_value(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig) as caught:
        signing_key(KeyStore(fields).read("messages/signing", 1))
    assert not any(value and value in str(caught.value) for value in fields.values())


def test_the_newest_versions_alone_are_read() -> None:
    store = KeyStore(*[new_key("hmac") for _ in range(MAX_VERSIONS + 2)])
    keys = keys_of(store)
    assert keys.verifier("2") is None
    assert keys.verifier("3") is not None


@pytest.mark.parametrize("kind", ["hmac", "ed25519"])
def test_a_fleet_without_a_key_gets_one_and_keeps_it(kind: str) -> None:
    store = KeyStore()
    secrets = Secrets([store], lambda _: None, 1.0, lambda: 0.0)
    assert ensure_key(secrets, kind)
    assert not ensure_key(secrets, kind)
    assert refusal(check_of(keys_of(store, kind)), submitted(signer_of(keys_of(store, kind)))) == ""


@pytest.mark.parametrize("kind", ["hmac", "ed25519"])
def test_a_rotation_makes_a_key_of_the_wanted_kind(kind: str) -> None:
    factory = installed_rotators()["signing_key"]
    rotator = make_rotator(factory, PATH, {"kind": kind}, lambda _: {})
    turn = Turn(PATH, 2, "an-id", {})
    made = rotator.create(turn)
    rotator.test(turn, made)
    assert signing_key(KeyStore(made).read(PATH, 1)).kind == kind


@pytest.mark.parametrize(
    ("rotation", "words"),
    [
        ('revoke = "acknowledged"\ngrace_seconds = 604800', 'revoke: set it to "grace"'),
        ('revoke = "grace"\ngrace_seconds = 3600', "messages.valid_seconds"),
        ('revoke = "grace"', "messages.valid_seconds"),
    ],
    ids=["acknowledged", "a short grace", "the default grace"],
)
def test_the_previous_key_is_kept_while_its_messages_are_valid(rotation: str, words: str) -> None:
    table = f'[secrets.rotation."{PATH}"]\nrotator = "signing_key"\n'
    with pytest.raises(InvalidConfig, match=words):
        parse_config(table + rotation, "fleet.toml")
    parse_config(table + 'revoke = "grace"\ngrace_seconds = 604800', "fleet.toml")


def test_no_repr_shows_a_key() -> None:
    key = signing_key(KeyStore(HMAC).read("messages/signing", 1))
    assert HMAC["key"] not in repr(key)
