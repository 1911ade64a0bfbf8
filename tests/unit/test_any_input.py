"""Whatever is read from outside is a value or a sentence: any bytes, any JSON, any Python value."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_messages import HMAC, KeyStore, keys_of, signer_of

from fleet.broker.messages import message_encoder
from fleet.cli.up import read_procfile
from fleet.cli.work import read_payload
from fleet.errors import FleetError, InvalidConfig, InvalidRequest
from fleet.ledger.period import period_of
from fleet.ledger.usage_exports import NEEDED, nanodollars, read_usage_export
from fleet.local.run_file import running
from fleet.models.complexity import Complexity
from fleet.models.price_files import parsed, read_given, read_stored
from fleet.settings import Settings, parse_config
from fleet.settings.addresses import masked, redis_address
from fleet.settings.environment import RUN_FILE, Environment, load_environment
from fleet.simulation.record import CsvTask, from_csv
from fleet.tasks.kept_messages import payload_of, readdressed
from fleet.tasks.submission.checks import RequestChecks, Submission

# The fixtures here do not depend on the example.
QUICK = settings(suppress_health_check=list(HealthCheck))
KEY = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
BYTES = st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode())
SECRET = "sk-s3cr3t-of-mine"
SIGNING = message_encoder(signer_of(keys_of(KeyStore(HMAC))))


def said(error: FleetError) -> None:
    """An error that is a sentence, and not what somebody else has put together."""
    text = str(error)
    assert 10 < len(text) < 5000
    assert "Traceback" not in text


def holds(read: Callable[[], Any], *errors: type[FleetError]) -> None:
    try:
        read()
    except errors as error:
        said(error)


# fleet.toml

DEFAULTS = tomllib.loads(
    files("fleet.settings").joinpath("default.toml").read_text(encoding="utf-8")
)
TOML = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.just(SECRET)
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(table: Any, *path: str) -> list[tuple[str, ...]]:
    """Where a value stands in a table, at any depth."""
    if not isinstance(table, dict):
        return []
    found = [(*path, key) for key in table]
    return found + [deeper for key in table for deeper in places(table[key], *path, key)]


@QUICK
@given(st.sampled_from(places(DEFAULTS)), TOML)
def test_any_value_at_any_place_of_the_configuration(place: tuple[str, ...], value: Any) -> None:
    given_table: dict[str, Any] = json.loads(json.dumps(DEFAULTS, default=str))
    table = given_table
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    holds(lambda: parse_config(tomli_w.dumps(given_table), "fleet.toml"), InvalidConfig)


@QUICK
@given(st.sampled_from(list(DEFAULTS)), TOML)
def test_any_value_in_the_place_of_a_table(name: str, value: Any) -> None:
    holds(lambda: parse_config(tomli_w.dumps({name: value}), "fleet.toml"), InvalidConfig)


@QUICK
@given(st.text(max_size=200))
def test_any_text_as_the_configuration(text: str) -> None:
    holds(lambda: parse_config(text, "fleet.toml"), InvalidConfig)


@pytest.mark.parametrize(
    "key", ["base_url", "kind", "key_variable", "region", "stream", "api_key", "limit_field"]
)
def test_a_key_in_the_configuration_is_not_repeated(key: str) -> None:
    text = f'[providers.mine]\n{key} = "{SECRET}"\n'
    with pytest.raises(InvalidConfig) as refused:
        parse_config(text, "fleet.toml")
    assert SECRET not in str(refused.value)


def test_a_configuration_that_is_too_deep_is_said_to_be() -> None:
    for text in ("a = " + "[" * 3000 + "]" * 3000, "[" + "a." * 3000 + "a]"):
        holds(lambda text=text: parse_config(text, "fleet.toml"), InvalidConfig)


# FLEET_* and addresses

VARIABLES = [f"FLEET_{name.upper()}" for name in Environment.model_fields]


@QUICK
@given(
    name=st.sampled_from(VARIABLES),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
def test_any_value_of_a_variable(
    clean_environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    clean_environment.setenv(name, value)
    holds(load_environment, InvalidConfig)
    clean_environment.delenv(name)


SCHEMES = ("redis", "rediss", "sentinel", "amqp", "amqps", "http")
ADDRESS = st.builds(
    "{}://{}".format, st.sampled_from(SCHEMES), st.text("/:@?#[]%&=.,\\ü１a0-", max_size=30)
)


@QUICK
@given(ADDRESS | st.text(max_size=40))
def test_any_address(url: str) -> None:
    masked(url)
    holds(lambda: redis_address(url), InvalidConfig)


@given(
    st.sampled_from(SCHEMES),
    st.text("/:@?#[]%&=ü１ab0-", max_size=4),
    st.text("/:@?#[]%&=ü１ab0-", max_size=4),
)
def test_no_part_of_a_password_is_shown(scheme: str, before: str, after: str) -> None:
    secret = "Zx9Qw7"
    url = f"{scheme}://user:{before}{secret}{after}@host:1/0"
    assert secret not in masked(url)
    try:
        assert secret not in redis_address(url).place
    except InvalidConfig as error:
        assert secret not in str(error)


def test_a_slash_in_a_password_is_told_before_anything_connects(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    for url in (f"redis://user:a/{SECRET}@host:6379/0", f"redis://user:{SECRET}/a@host/0"):
        clean_environment.setenv("FLEET_BROKER_URL", url)
        with pytest.raises(InvalidConfig, match="%2F for /") as refused:
            load_environment()
        assert SECRET not in str(refused.value)


# Files


@QUICK
@given(content=BYTES)
def test_any_run_file(
    tmp_path: Path, content: bytes, clean_environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    clean_environment.setenv("FLEET_DATA_DIR", str(tmp_path))
    holds(lambda: running(tmp_path), InvalidConfig)
    holds(load_environment, InvalidConfig)


RUN: dict[str, Any] = {
    "pid": 1,
    "started": 1.0,
    "broker_url": "redis://127.0.0.1:1/0",
    "model_url": None,
    "flower_url": "http://127.0.0.1:1",
    "flower_user": "fleet",
    "ports": {},
    "processes": ["worker"],
    "ops_url": "http://127.0.0.1:2",
    "model_key": "key",
}


@QUICK
@given(name=st.sampled_from(list(RUN)), value=JSON)
def test_any_value_in_a_run_file(
    tmp_path: Path, name: str, value: Any, clean_environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / RUN_FILE).write_text(json.dumps({**RUN, name: value}))
    clean_environment.setenv("FLEET_DATA_DIR", str(tmp_path))
    holds(lambda: running(tmp_path), InvalidConfig)
    holds(load_environment, InvalidConfig)


@QUICK
@given(content=st.binary(max_size=200) | st.text("ab:# \n-_", max_size=60).map(str.encode))
def test_any_procfile(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "Procfile").write_bytes(content)
    holds(lambda: read_procfile(tmp_path / "Procfile"), InvalidConfig)


def test_a_name_that_a_procfile_has_twice_is_told(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("beat: fleet service beat\nbeat: other\n")
    with pytest.raises(InvalidConfig, match=r"Procfile: beat .*twice"):
        read_procfile(tmp_path / "Procfile")


CELL = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["2026-11-24", "gpt", "1", "-1", "1e999", "NaN", "1" * 5000, "0.5", '"', "1e308"]
)
ROWS = st.lists(st.lists(CELL, max_size=9).map(",".join), max_size=4).map("\n".join)


@QUICK
@given(rows=ROWS, more=BYTES)
def test_any_usage_export(tmp_path: Path, rows: str, more: bytes) -> None:
    path = tmp_path / "usage.csv"
    path.write_text(f"{','.join(NEEDED)}\n{rows}")
    holds(lambda: read_usage_export(path), InvalidRequest)
    path.write_bytes(more)
    holds(lambda: read_usage_export(path), InvalidRequest)


@pytest.mark.parametrize(
    "row", ["2026-11-24", "2026-11-24,gpt,1,2", "2026-11-24,gpt,1,2,1e400,1,1"]
)
def test_a_short_or_odd_row_is_told_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "usage.csv"
    path.write_text(f"{','.join(NEEDED)}\n{row}\n")
    with pytest.raises(InvalidRequest, match="line 2: "):
        read_usage_export(path)


@QUICK
@given(rows=ROWS, more=BYTES)
def test_any_record_to_simulate(tmp_path: Path, rows: str, more: bytes) -> None:
    path = tmp_path / "record.csv"
    path.write_text(f"{','.join(CsvTask.model_fields)}\n{rows}")
    holds(lambda: from_csv(path), InvalidRequest)
    path.write_bytes(more)
    holds(lambda: from_csv(path), InvalidRequest)


@QUICK
@given(document=JSON, content=BYTES)
def test_any_price_file(tmp_path: Path, document: Any, content: bytes) -> None:
    holds(lambda: parsed(document, "prices"), InvalidRequest)
    holds(lambda: parsed([document], "prices"), InvalidRequest)
    (tmp_path / "prices.json").write_bytes(content)
    holds(lambda: read_stored(tmp_path), InvalidConfig)
    holds(lambda: read_given(tmp_path / "prices.json"), InvalidRequest)


def test_files_that_are_too_deep_are_said_to_be(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for name in ("prices.json", RUN_FILE, "payload.json"):
        (tmp_path / name).write_bytes(deep)
    holds(lambda: read_stored(tmp_path), InvalidConfig)
    holds(lambda: read_given(tmp_path / "prices.json"), InvalidRequest)
    holds(lambda: running(tmp_path), InvalidConfig)
    holds(lambda: read_payload(f"@{tmp_path / 'payload.json'}", None, []), InvalidRequest)
    holds(lambda: read_payload(None, None, [f"key={deep.decode()}"]), InvalidRequest)
    holds(lambda: payload_of(deep.decode()), InvalidRequest)


# The command line


@QUICK
@given(st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=20), max_size=2))
def test_any_payload_of_the_command_line(one: str, other: str, sets: list[str]) -> None:
    if one not in ("-",) and not one.startswith("@"):
        holds(lambda: read_payload(one, None, sets), InvalidRequest)
    holds(lambda: read_payload(None, None, [other]), InvalidRequest)


def test_a_file_of_a_payload_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"\xff\xfe")
    for source in (f"@{tmp_path / 'payload'}", f"@{tmp_path}", "@\0"):
        with pytest.raises(InvalidRequest):
            read_payload(source, None, [])


@QUICK
@given(
    st.none() | st.text(max_size=12), st.none() | st.text(max_size=12), st.none() | st.integers()
)
def test_any_period(first: str | None, last: str | None, days: int | None) -> None:
    holds(lambda: period_of("20261130", first, last, days), InvalidRequest)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2026-W48-1", "20261124", "١"])
def test_days_at_the_ends_of_the_calendar(day: str) -> None:
    holds(lambda: period_of("20261130", day), InvalidRequest)
    holds(lambda: period_of("20261130", None, day), InvalidRequest)
    holds(lambda: period_of("20261130", None, None, 10**9), InvalidRequest)


@QUICK
@given(st.text(max_size=20))
def test_any_amount(text: str) -> None:
    try:
        nanodollars(text)
    except ValueError as error:
        assert "dollars" in str(error)


# Kept messages


@QUICK
@given(BYTES.map(lambda raw: raw.decode(errors="replace")))
def test_any_kept_message(text: str) -> None:
    holds(lambda: payload_of(text), InvalidRequest)
    holds(lambda: readdressed(text, "id"), InvalidRequest)
    holds(lambda: SIGNING.readdress(text, "id"), InvalidRequest)


# Python values in a submission


class Strange:
    def __repr__(self) -> str:
        raise RuntimeError(SECRET)


CYCLIC: dict[str, Any] = {}
CYCLIC["instruction"] = CYCLIC
DEEP: Any = "x"
for _ in range(100_000):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, -1, 10**5000, math.nan, math.inf, 1j, "", "x", "\ud800", "\0", b"x", {1}, [], {},
    {1: 2}, {("a",): 1}, (), object(), Strange(), Strange, len, CYCLIC, DEEP, uuid4(), Decimal("1"),
    datetime.now(UTC), datetime(1, 1, 1, tzinfo=UTC), datetime.max, date.today(), time(), Path("/"),
]  # fmt: skip


@pytest.fixture
def checks(settings_of: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch) -> Any:
    from fleet.agent import installed_agents

    monkeypatch.setattr(Complexity, "estimate", lambda self, payload: 0.5)
    return RequestChecks(settings_of(""), installed_agents(), Complexity(None))  # type: ignore[arg-type]


FIELDS = [name for name in Submission.__dataclass_fields__ if name != "payload"]
ASK: dict[str, Any] = {
    "request_type": "code_generation",
    "payload": {"instruction": "add"},
}


@pytest.mark.parametrize("name", FIELDS)
def test_any_python_value_in_any_field_of_a_submission(checks: RequestChecks, name: str) -> None:
    for value in VALUES:
        holds(lambda value=value: checks.check(Submission(**{**ASK, name: value})), InvalidRequest)


def test_any_python_value_in_a_payload(checks: RequestChecks) -> None:
    for value in VALUES:
        for payload in (value, {"instruction": value}, {"instruction": "add", "tests": [value]}):
            asked = Submission("code_generation", payload)
            holds(lambda asked=asked: checks.check(asked), InvalidRequest)


def test_a_strangers_values_are_not_repeated_in_full(checks: RequestChecks) -> None:
    for name in ("tenant", "request_type", "pool", "model", "idempotency_key"):
        asked = Submission(**{**ASK, name: "x" * 100_000})
        with pytest.raises(InvalidRequest) as refused:
            checks.check(asked)
        assert len(str(refused.value)) < 600
