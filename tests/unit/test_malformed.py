"""What is no message is said in a sentence, whatever the bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.memory import Channel
from malformed_messages import ENVELOPES, TASKS, Change, good_message, written

from fleet.broker.transport.malformed import check_task, read_envelope
from fleet.broker.transport.set_aside import Message
from fleet.errors import MalformedMessage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Codecs:
    """As much of a channel as decoding a body takes."""

    codecs = Channel.codecs
    decode_body = Channel.decode_body


def take(raw: bytes) -> None:
    message: Any = Message(read_envelope(raw), channel=Codecs())
    message.accept = {"application/json"}
    if message.errors:
        raise MalformedMessage("its body cannot be decompressed")
    check_task(message)


def good() -> dict[str, Any]:
    return good_message("agents.napper", [{"note": "x"}], "{fleet}.naps")


def test_a_message_of_celery_is_one() -> None:
    take(json.dumps(good()).encode())


def test_one_of_the_first_protocol_is_one() -> None:
    body = json.dumps({"task": "shop.add", "id": "1", "args": [1, 2], "kwargs": {}})
    message = {**good(), "headers": {}, "body": body}
    message["properties"]["body_encoding"] = None
    take(json.dumps(message).encode())


@pytest.mark.parametrize("change", [*ENVELOPES.values(), *TASKS.values()], ids=[*ENVELOPES, *TASKS])
def test_whatever_is_wrong_with_a_message_is_said(change: Change | bytes) -> None:
    with pytest.raises(MalformedMessage):
        take(written(change, good()))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_said_to_be_none(raw: bytes) -> None:
    said(raw)


PARTS = ("body", "headers", "properties", "content-type", "content-encoding")
NAMES = (*good()["headers"], "eta", "expires", "group", "stamps", "fleet", "compression")


@given(st.sampled_from(("", "headers", "properties")), st.data())
def test_any_value_in_any_place_is_taken_or_said(place: str, data: st.DataObject) -> None:
    message = good()
    where = message[place] if place else message
    names = {"": PARTS, "headers": NAMES, "properties": tuple(where)}[place]
    where[data.draw(st.sampled_from(names))] = data.draw(JSON)
    said(json.dumps(message).encode())


@given(JSON)
def test_any_body_is_taken_or_said(body: Any) -> None:
    message = {**good(), "body": json.dumps(body)}
    message["properties"]["body_encoding"] = None
    said(json.dumps(message).encode())


def said(raw: bytes) -> None:
    try:
        take(raw)
    except MalformedMessage as error:
        assert str(error).startswith(("it", "its"))
