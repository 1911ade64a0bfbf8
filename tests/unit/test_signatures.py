"""A signed message runs as it was sent, and in no other form."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from malformed_messages import good_message
from signed_messages import (
    ED25519,
    HMAC,
    NOW,
    KeyStore,
    check_of,
    config_of,
    content,
    keys_of,
    refusal,
    signed,
    signer_of,
    submitted,
)

from fleet.broker.messages import message_encoder
from fleet.broker.rules.signatures import SIGNATURE, signed_headers
from fleet.errors import InvalidRequest, MalformedMessage
from fleet.secrets.signing_keys import new_key
from fleet.settings import FleetConfig

STORE = KeyStore(HMAC)
SIGNER = signer_of(keys_of(STORE))
SMALL = FleetConfig.model_validate(
    {"messages": {"signing": "hmac", "max_bytes": 1024}, "limits": {"payload_bytes": 1024}}
)
CHECK = check_of(keys_of(STORE), SMALL)
STRANGER = signer_of(keys_of(KeyStore(new_key("hmac"))))


def plain(**headers: Any) -> dict[str, Any]:
    """A signed message of a plain task."""
    message = good_message("shop.bill", [{"amount": 1.5, "to": "é"}], "shop", "plain-id")
    message["headers"].update(headers)
    return signed(SIGNER, message)


GOOD: dict[str, dict[str, Any]] = {
    "a submission": submitted(SIGNER),
    "a plain task": plain(),
    "a plain task with headers of its own": plain(mine={"b": [1, 2.5, None], "a": "☃"}),
    "a task with an ETA": plain(eta="2027-01-15T08:00:00+00:00"),
}
EACH = pytest.mark.parametrize("message", GOOD.values(), ids=GOOD.keys())


@EACH
def test_a_signed_message_passes(message: dict[str, Any]) -> None:
    assert refusal(CHECK, message) == ""


def test_an_ed25519_message_passes_where_only_the_public_key_is_known() -> None:
    sender = signer_of(keys_of(KeyStore(ED25519), "ed25519"))
    worker = check_of(keys_of(KeyStore({"public_key": ED25519["public_key"]}), "ed25519"))
    assert refusal(worker, submitted(sender)) == ""
    altered = submitted(sender)
    altered["headers"]["id"] = "another"
    assert "does not fit" in refusal(worker, altered)


def test_a_message_that_kombu_has_requeued_passes() -> None:
    message = submitted(SIGNER)
    message["headers"]["redelivered"] = True
    message["properties"]["delivery_info"]["routing_key"] = "elsewhere"
    message["properties"]["delivery_tag"] = "another"
    assert refusal(CHECK, message) == ""


def test_a_delayed_message_passes_without_its_eta_and_with_no_other() -> None:
    message = copy.deepcopy(GOOD["a task with an ETA"])
    message["headers"]["eta"] = None
    assert refusal(CHECK, message) == ""
    message["headers"]["eta"] = "2026-01-15T08:00:00+00:00"
    assert "ETA" in refusal(CHECK, message)


ALTERATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the task's name": lambda m: m["headers"].update(task="agents.security_scanner"),
    "the id": lambda m: m["headers"].update(id="another"),
    "the id and the correlation id": lambda m: (
        m["headers"].update(id="another", root_id="another"),
        m["properties"].update(correlation_id="another"),
    ),
    "the tenant": lambda m: m.update(body=m["body"].replace('"acme"', '"evil"')),
    "the request type": lambda m: m.update(body=m["body"].replace("code_generation", "x")),
    "a quality": lambda m: m.update(body=m["body"].replace('"complexity"', '"speed"')),
    "the payload": lambda m: m.update(body=m["body"].replace("2603", "2604")),
    "what follows": lambda m: m.update(body=m["body"].replace('"chain": null', '"chain": []')),
    "the expiry": lambda m: m["headers"].update(expires="2099-01-01T00:00:00+00:00"),
    "the time limit": lambda m: m["headers"].update(timelimit=[99, 99]),
    "the retries": lambda m: m["headers"].update(retries=1),
    "the chord": lambda m: m["headers"].update(group="g"),
    "the request to Fleet": lambda m: m["headers"].update(fleet={"tenant": "evil"}),
    "an attribute of Celery's request": lambda m: m["headers"].update(called_directly=True),
    "a stamp": lambda m: m["headers"].update(stamps={"a": 1}),
    "the ETA": lambda m: m["headers"].update(eta="2026-01-01T00:00:00+00:00"),
    "where the result goes": lambda m: m["properties"].update(reply_to="mine"),
    "the priority": lambda m: m["properties"].update(priority=9),
    "the content type": lambda m: m.update({"content-type": "text/plain"}),
    "the content encoding": lambda m: m.update({"content-encoding": "latin-1"}),
    "the compression": lambda m: m["headers"].update(compression="none"),
    "the end of validity": lambda m: m["headers"][SIGNATURE].update(until=2**40),
    "the key id": lambda m: m["headers"][SIGNATURE].update(key="2"),
    "the code": lambda m: m["headers"][SIGNATURE].update(code="00" * 32),
    "the form of the code": lambda m: m["headers"][SIGNATURE].update(
        code=m["headers"][SIGNATURE]["code"].upper()
    ),
    "the signature, removed": lambda m: m["headers"].pop(SIGNATURE),
    "the signature, another's": lambda m: m.update(signed(STRANGER, m)),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_an_altered_message_is_refused(alter: Callable[[dict[str, Any]], Any]) -> None:
    message = submitted(SIGNER)
    original = copy.deepcopy(message)
    alter(message)
    assert message != original
    assert refusal(CHECK, message)


def test_every_header_of_a_submission_is_signed_or_named_as_unsigned() -> None:
    message = submitted(SIGNER)
    unsigned = set(message["headers"]) - set(signed_headers(message["headers"]))
    assert unsigned == {"eta", SIGNATURE}


def test_an_expired_signature_counts_only_while_the_task_has_a_record() -> None:
    message = submitted(SIGNER)
    late = NOW + SIGNER.agent_valid_seconds + 1
    assert refusal(CHECK, message, late - 2) == ""
    assert "no record" in refusal(CHECK, message, late)
    assert refusal(CHECK, message, late, recorded=("the-id",)) == ""


def test_the_signature_of_an_agents_task_is_valid_no_longer_than_its_record_is_kept() -> None:
    config = config_of(valid_seconds=10 * 86400)
    signer = signer_of(keys_of(STORE), config)
    limits = config.limits
    kept = min(limits.result_ttl_seconds, limits.dead_ttl_seconds)
    assert submitted(signer)["headers"][SIGNATURE]["until"] == NOW + kept
    assert signed(signer, plain())["headers"][SIGNATURE]["until"] == NOW + 10 * 86400


def test_an_oversized_message_is_refused() -> None:
    size = CHECK.max_bytes
    message = good_message("shop.bill", ["x" * size], "shop")
    assert "bytes" in refusal(CHECK, signed(SIGNER, message))
    assert "bytes" in refusal(CHECK, b"x" * (4 * size + 1))
    message = good_message("shop.bill", ["x" * (size // 2)], "shop")
    assert refusal(CHECK, signed(SIGNER, message)) == ""


def test_a_payload_that_is_allowed_always_fits() -> None:
    config = config_of(max_bytes=1024)
    assert config.message_bytes > 2 * config.limits.payload_bytes


@pytest.mark.parametrize("signing", ["off", "hmac"])
def test_an_agents_task_is_json(signing: str) -> None:
    config = config_of(signing=signing)
    check = check_of(keys_of(STORE), config)
    message = good_message("agents.code_generator", [{}], "q")
    message["content-type"] = "application/x-yaml"
    assert "content type" in refusal(check, message)


def test_unsigned_messages_pass_where_they_are_accepted_and_wrong_signatures_do_not() -> None:
    check = check_of(keys_of(STORE), config_of(accept_unsigned=True))
    message = good_message("shop.bill", [1], "shop")
    assert "not signed" in refusal(CHECK, message)
    assert refusal(check, message) == ""
    assert refusal(check, signed(STRANGER, message))


def test_a_task_that_stands_for_others_is_refused() -> None:
    assert refusal(CHECK, signed(SIGNER, good_message("celery.chain", [], "q")))
    assert refusal(CHECK, signed(SIGNER, good_message("celery.chord_unlock", [], "q"))) == ""


def test_a_kept_message_is_signed_anew_for_another_task() -> None:
    encoder = message_encoder(SIGNER)
    moved = json.loads(encoder.readdress(json.dumps(submitted(SIGNER)), "new-id"))
    assert moved["headers"]["id"] == moved["properties"]["correlation_id"] == "new-id"
    assert refusal(CHECK, moved) == ""


def test_a_kept_message_that_was_altered_is_not_signed_anew() -> None:
    message = submitted(SIGNER)
    message["body"] = message["body"].replace('"acme"', '"evil"')
    with pytest.raises(InvalidRequest, match="does not fit"):
        message_encoder(SIGNER).readdress(json.dumps(message), "new-id")


# Any alteration at all

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = (
    *(("headers", name) for name in (*submitted(SIGNER)["headers"], "fleet", "mine", "children")),
    *(("headers", SIGNATURE, name) for name in ("key", "until", "eta", "code")),
    *(("properties", name) for name in ("priority", "reply_to", "correlation_id")),
    *(("properties", name) for name in ("body_encoding", "delivery_info")),
    *(("body",), ("content-type",), ("content-encoding",), ("headers",), ("properties",)),
)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[dict[str, Any] | bytes, float]:
    """A message that was forged, altered, sent again under another id, expired, too large, or of
    wrong types; and the time at which it is taken."""
    message = copy.deepcopy(draw(st.sampled_from(list(GOOD.values()))))
    original = copy.deepcopy(message)
    kind = draw(st.sampled_from(KINDS))
    if kind == "raw":
        return draw(st.binary(max_size=200)), NOW
    if kind == "expired":
        return message, draw(st.floats(NOW + 10**7, NOW + 10**11))
    if kind == "forged":
        return signed(STRANGER, message), NOW
    if kind == "replayed":
        task_id = draw(st.text(min_size=1, max_size=40))
        assume(task_id != message["headers"]["id"])
        message["headers"]["id"] = message["properties"]["correlation_id"] = task_id
        return message, NOW
    if kind == "oversized":
        many = ["x" * (CHECK.max_bytes + draw(st.integers(0, 1000)))]
        return signed(SIGNER, good_message("shop.bill", many, "q")), NOW
    place = draw(st.sampled_from(PLACES))
    at: Any = message
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = draw(VALUES)
    assume(not _means_the_same(message, original))
    return message, NOW


KINDS = ("raw", "expired", "forged", "replayed", "oversized", *["altered"] * 11)


def _means_the_same(message: dict[str, Any], original: dict[str, Any]) -> bool:
    """Whether an altered message still says the same: an absent header is one that is null."""
    try:
        found, wanted = content(message), content(original)
    except MalformedMessage:
        return False
    eta = found.headers.get("eta")
    headers = json.dumps(signed_headers(found.headers), sort_keys=True)
    return (
        found._replace(headers={}) == wanted._replace(headers={})
        and headers == json.dumps(signed_headers(wanted.headers), sort_keys=True)
        and json.dumps(found.headers.get(SIGNATURE)) == json.dumps(wanted.headers[SIGNATURE])
        and eta in (None, wanted.headers.get("eta"))
    )


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile())
def test_no_hostile_message_passes(case: tuple[dict[str, Any] | bytes, float]) -> None:
    assert refusal(CHECK, *case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile())
def test_of_ten_thousand_hostile_messages_none_passes(
    case: tuple[dict[str, Any] | bytes, float],
) -> None:
    assert refusal(CHECK, *case)
