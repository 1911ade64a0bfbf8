"""`fleet models` and `fleet models refresh`, as commands."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import redis
from commands import run_fleet

from fleet.local.ports import pick_ports

Command = Callable[..., subprocess.CompletedProcess[str]]
GPT_5 = {
    "id": "gpt-5",
    "match": {"equals": "gpt-5"},
    "context_window": 123_456,
    "prices": {
        "input_mtok": {"base": 2.5, "tiers": [{"start": 200_000, "price": 5}]},
        "output_mtok": 12,
        "cache_read_mtok": 0.5,
    },
}
PRICES = [{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [GPT_5]}]

POOL = """
[providers.own]
base_url = "https://api.example.com/v1"

[providers.own.keys.main]
secret = "providers/own"
share = 3

[providers.own.keys.batch]
variable = "BATCH_KEY"
daily_usd = 12

[catalogue.gpt]
provider = "own"
quality = 0.9
speed = 0.9
free = true
"""


@pytest.fixture
def fleet(tmp_path: Path, valkey_url: str, client: redis.Redis) -> Iterator[Command]:
    """Runs a command in an empty folder, with no key but what it is given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLEET_") and not name.endswith("_API_KEY")
    }

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**kept, "FLEET_BROKER_URL": valkey_url, **variables}
        return run_fleet("models", *arguments, folder=tmp_path, environment=environment)

    yield run
    client.flushall()


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address on the loopback interface, and the folder whose files it serves."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    authorizations: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.authorizations.append(self.headers["Authorization"])
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Requests are no news here."""


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shown(fleet: Command, **variables: str) -> dict[str, Any]:
    listed = answer(fleet("--json", **variables))
    return {model["model"]: model for model in listed["models"]}


def test_the_models_are_listed_with_price_window_and_state(fleet: Command) -> None:
    models = shown(fleet, OPENAI_API_KEY="sk-secret")
    assert models["gpt-5"]["state"] == "ready"
    assert models["gpt-5"]["dollars_per_million"]["input"]["dollars"] == "1.25"
    assert models["gpt-5"]["context_tokens"] == 400_000
    opus = models["claude-opus-4-1"]
    assert (opus["state"], opus["reason"]) == ("absent", "no key: set ANTHROPIC_API_KEY")
    done = fleet(OPENAI_API_KEY="sk-secret")
    assert done.returncode == 0, done.stderr
    assert "no key: set" in done.stdout
    assert "Prices by genai-prices" in done.stdout
    assert "sk-secret" not in done.stdout + done.stderr


def test_the_keys_are_listed_with_their_state_and_without_their_values(
    fleet: Command, client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "fleet.toml").write_text(POOL)
    in_a_day = int(client.time()[0]) * 1000 + 86_400_000
    client.hset("{fleet}:models", "cool|own:main|", f"{in_a_day},1,a refused key")
    pace = "7.25,1000,4,900,80,5000,0,200,0"
    client.hset("{fleet}:key:own:main", mapping={"n|gpt": "3", "pace|gpt": pace})
    main, batch = answer(fleet("--json", BATCH_KEY="sk-secret"))["keys"]
    assert (main["key"], main["secret"], main["share"]) == ("main", "providers/own", 3.0)
    assert (main["state"], main["reason"]) == ("cooling down", "a refused key")
    called = {"model": "gpt", "in_flight": 3, "allowed": 8}
    assert main["calls"] == [called]
    assert (batch["state"], batch["daily_nanodollars"]) == ("ready", 12_000_000_000)
    done = fleet(BATCH_KEY="sk-secret")
    assert done.returncode == 0, done.stderr
    for word in ("secret providers/own", "gpt 3 of 8", "$0 of $12", "after a refused key"):
        assert word in " ".join(done.stdout.split()), word
    assert "sk-secret" not in done.stdout


def test_a_request_type_shows_what_is_believed_and_an_unknown_one_is_refused(
    fleet: Command,
) -> None:
    done = fleet("--request-type", "code_generation")
    assert "learned" in done.stdout
    learned = answer(fleet("--request-type", "code_generation", "--json"))["models"][0]["learned"]
    assert [each["request_type"] for each in learned] == ["code_generation"]
    refused = fleet("--request-type", "knitting")
    assert refused.returncode == 2
    assert "no request type is called 'knitting'; use one of: code_generation" in refused.stderr


def test_refreshed_prices_are_shown_stored_and_preferred(
    fleet: Command, published: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = published
    (folder / "data.json").write_text(json.dumps(PRICES))
    (tmp_path / "fleet.toml").write_text(
        "[catalogue.gpt-5]\nprovider = 'openai'\nquality = 0.9\nspeed = 0.9\n"
        "[catalogue.mystery]\nprovider = 'google'\nquality = 0.9\nspeed = 0.9\n"
    )
    done = fleet("refresh", "--url", f"{address}/data.json", OPENAI_API_KEY="sk")
    assert done.returncode == 0, done.stderr
    assert "gpt-5: 1.25 / 10 / 0.125 -> 2.5, over 200k 5 / 12 / 0.5" in done.stdout
    assert "mystery: has no price; set input_price and output_price" in done.stdout
    model = shown(fleet, OPENAI_API_KEY="sk")["gpt-5"]
    assert model["context_tokens"] == 123_456
    assert model["dollars_per_million"]["input"] == {
        "dollars": "2.5",
        "tiers": [{"above_input_tokens": 200_000, "dollars": "5"}],
    }
    again = answer(fleet("refresh", "--url", f"{address}/data.json", "--json"))
    assert (again["changed"], again["unpriced"]) == ([], ["mystery"])


def test_a_password_in_the_address_is_sent_and_shows_nowhere(
    fleet: Command, published: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = published
    (folder / "data.json").write_text(json.dumps(PRICES))
    private = address.replace("://", "://user:pa%24s@") + "/data.json"
    told = fleet("refresh", "--url", private)
    assert told.returncode == 0, told.stderr
    assert _Quiet.authorizations[-1] == "Basic " + b64encode(b"user:pa$s").decode()
    assert "**********@127.0.0.1" in told.stdout
    assert "use these prices within a minute" in told.stdout
    (folder / "data.json").unlink()
    missing = fleet("refresh", "--url", private)
    assert missing.returncode == 1
    no_port = fleet("refresh", "--url", "http://user:pa%24s@127.0.0.1:none/")
    assert no_port.returncode == 1
    other = fleet("refresh", "--url", "ftp://user:pa%24s@127.0.0.1/")
    assert other.returncode == 2
    kept = (tmp_path / ".fleet" / "prices.json").read_text()
    shown = [run.stdout + run.stderr for run in (told, missing, no_port, other)]
    assert "pa%24s" not in "".join([kept, *shown])
    assert "pa$s" not in "".join([kept, *shown])


def test_a_makers_price_is_known_whatever_its_table_is_called(
    fleet: Command, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps([{**PRICES[0], "id": "anthropic"}]))
    (tmp_path / "fleet.toml").write_text(
        "[providers.claude]\nkind = 'anthropic'\nkey_variable = 'CLAUDE_KEY'\n"
        "[catalogue.gpt-5]\nprovider = 'claude'\nquality = 0.9\nspeed = 0.9\n"
    )
    done = answer(fleet("refresh", "--from", "given.json", "--json"))
    assert done["unpriced"] == []
    assert [each["model"] for each in done["changed"]] == ["gpt-5"]


def test_prices_are_taken_from_a_file_also_from_one_that_was_stored_elsewhere(
    fleet: Command, client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps(PRICES))
    changed = answer(fleet("refresh", "--from", "given.json", "--json"))["changed"]
    assert [(each["model"], each["after"]["output"]["dollars"]) for each in changed] == [
        ("gpt-5", "12")
    ]
    (tmp_path / ".fleet" / "prices.json").rename(tmp_path / "carried.json")
    client.flushall()
    assert answer(fleet("refresh", "--from", "carried.json", "--json"))["changed"] == changed


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "fetching prices from"),
        ("<html>", "is no price data of genai-prices"),
        ("[]", "not a list of providers"),
        (json.dumps([{"id": "openai", "models": 3}]), "is no price data of genai-prices"),
    ],
)
def test_without_prices_at_the_address_nothing_is_written(
    fleet: Command, published: tuple[str, Path], tmp_path: Path, content: str | None, says: str
) -> None:
    address, folder = published
    if content is not None:
        (folder / "data.json").write_text(content)
    refused(fleet("refresh", "--url", f"{address}/data.json"), 1, says)
    assert not (tmp_path / ".fleet").exists()


def test_without_a_network_a_file_is_the_advice(fleet: Command, tmp_path: Path) -> None:
    port = pick_ports({"FLEET_MODEL_PORT": 0})["FLEET_MODEL_PORT"]
    refused(fleet("refresh", "--url", f"http://127.0.0.1:{port}/"), 1, "pass it with --from")
    assert not (tmp_path / ".fleet").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "absent.json"), "absent.json: cannot be read"),
        (("--from", "a.json", "--url", "http://x"), "give --url or --from, not both"),
        (("--url", "file:///etc/passwd"), "give an address that begins with http://"),
    ],
)
def test_bad_arguments_are_refused(
    fleet: Command, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    refused(fleet("refresh", *arguments), 2, says)
    assert not (tmp_path / ".fleet").exists()


def test_prices_that_another_machine_has_refreshed_are_shown_and_named(
    fleet: Command, client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps(PRICES))
    assert fleet("refresh", "--from", "given.json").returncode == 0
    elsewhere = {"OPENAI_API_KEY": "sk", "FLEET_DATA_DIR": str(tmp_path / "elsewhere")}
    listed = answer(fleet("--json", **elsewhere))
    assert listed["prices"].startswith("the prices in Redis of 20")
    (model,) = (each for each in listed["models"] if each["model"] == "gpt-5")
    assert model["context_tokens"] == 123_456
    client.hset("{fleet}:prices", "document", b"broken")
    shown = fleet(**elsewhere)
    assert shown.returncode == 0, shown.stderr
    assert "genai-prices" in shown.stdout
    assert "the prices in Redis: cannot be read" in " ".join(shown.stdout.split())


def test_without_redis_prices_are_kept_and_the_status_says_that_they_are_not_shared(
    fleet: Command, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps(PRICES))
    port = pick_ports({"FLEET_MODEL_PORT": 0})["FLEET_MODEL_PORT"]
    away = f"redis://127.0.0.1:{port}/0"
    done = fleet("refresh", "--from", "given.json", FLEET_BROKER_URL=away)
    assert done.returncode == 1
    assert "Other machines do not have them" in done.stderr
    assert "share this data folder" in done.stdout
    assert (tmp_path / ".fleet" / "prices.json").exists()


def test_a_stored_file_that_is_broken_is_replaced_by_a_refresh(
    fleet: Command, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps(PRICES))
    stored = tmp_path / ".fleet" / "prices.json"
    stored.parent.mkdir()
    stored.write_text("{")
    refused(fleet(OPENAI_API_KEY="sk"), 2, "run `fleet models refresh`")
    assert fleet("refresh", "--from", "given.json").returncode == 0
    assert shown(fleet, OPENAI_API_KEY="sk")["gpt-5"]["context_tokens"] == 123_456


def refused(done: subprocess.CompletedProcess[str], status: int, says: str) -> None:
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert says in done.stderr
