"""What an answer of Redis that is an error means. Its first word decides.

    retry later      the server cannot take the call now: it loads, it is busy, its disk is full
    not allowed      the user, the password or the user's rights
    never retry      the server or its configuration has to be changed first

redis-py has a class for some of these words and raises the others as `ResponseError`. It cuts the
first word off where it knows it, and puts other words in front of an answer within a pipeline. A
server before Redis 7 puts an error within a script behind words of its own. Here all four are read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import redis
from redis import exceptions

from fleet.errors import FleetError, InvalidConfig, NeverRetry, NotAllowed, Unavailable

NOT_NOW = {
    "BUSY": "a script runs there for too long; `SCRIPT KILL` ends one that has written nothing",
    "CLUSTERDOWN": "its cluster has lost a part",
    "EXECABORT": "a command of the transaction was refused",
    "FAILOVER": "it hands over to another server",
    "INPROG": "it hands over to another server",
    "IOERR": "it could not reach another server",
    "LOADING": "it reads its data from disk",
    "MASTERDOWN": "it is a replica that has lost its master",
    "MISCONF": "it could not save to its disk; make room there, its log says more",
    "NOGOODSLAVE": "no replica can take over",
    "NOMASTERLINK": "it is a replica that has lost its master",
    "NOREPLICAS": "it asks for more replicas than answer: min-replicas-to-write",
    "NOSCRIPT": "it has forgotten a script that was just loaded",
    "NOTREADY": "it starts",
    "OOM": "it has no memory left; raise maxmemory",
    "READONLY": "it is a replica; wait for the failover, or name the master in FLEET_BROKER_URL",
    "TRYAGAIN": "its cluster moves keys",
    "UNBLOCKED": "it has become a replica",
    "UNKILLABLE": "a script that has written runs there for too long",
}
"""First words of a server that may take the same call later, and why it does not now."""

NOT_YOU = frozenset({"DENIED", "NOAUTH", "NOPERM", "WRONGPASS"})
"""First words of a server that refuses the caller."""

NOT_A_CLUSTER = frozenset({"ASK", "CROSSSLOT", "MOVED"})

WORDS: dict[type[Exception], str] = {
    exceptions.AuthorizationError: "NOPERM",
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.AuthenticationWrongNumberOfArgsError: "WRONGPASS",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ExecAbortError: "EXECABORT",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""The words that redis-py has cut off, by its classes; those that derive from others come first."""

TOO_MANY_CLIENTS = "max number of clients"
NOT_IN_A_SCRIPT = ("ACL failure in script", "can't run this command or subcommand")
"""How Redis and Valkey put it where a script may not do what its caller has no right to."""

IN_A_PIPELINE = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
IN_A_SCRIPT = re.compile(r".*@user_script: ?\d+: -?(?=[A-Z]{2,}\b)", re.DOTALL)
FIRST_WORD = re.compile(r"^-?([A-Z]{2,})(?: |$)")


class Answer(NamedTuple):
    """An error that Redis has answered with: its first word, '' for none, and the rest."""

    word: str
    rest: str

    def __str__(self) -> str:
        return f"{self.word} {self.rest}".strip()


def answer_of(error: redis.RedisError) -> Answer | None:
    """What Redis has answered; None where no answer came."""
    words = (word for kind, word in WORDS.items() if isinstance(error, kind))
    known = next(words, getattr(error, "status_code", None) or "")
    said = IN_A_PIPELINE.sub("", str(error))
    if not known and not isinstance(error, exceptions.ResponseError):
        return Answer("ERR", said) if TOO_MANY_CLIENTS in said else None
    if known in ("", "ERR"):
        said = IN_A_SCRIPT.sub("", said)
        first = FIRST_WORD.match(said)
        known, said = (first[1], said[first.end() :]) if first else (known or "ERR", said)
    return Answer(known, said)


def translated(answer: Answer, where: str) -> FleetError:
    """Fleet's error for what Redis at a place has answered."""
    word, rest = answer
    if word in NOT_YOU or any(words in str(answer) for words in NOT_IN_A_SCRIPT):
        return NotAllowed(
            f"Redis refused the user, the password or the user's rights ({answer}); check "
            "FLEET_BROKER_URL, and give the user the rights that docs/brokers.md names"
        )
    if word in NOT_NOW or TOO_MANY_CLIENTS in rest:
        why = NOT_NOW.get(word, "it has as many clients as it takes; raise maxclients")
        return Unavailable(f"Redis cannot take it now ({answer}); nothing was written. Why: {why}")
    if word in NOT_A_CLUSTER:
        return InvalidConfig(
            f"Redis at {where} is a part of a cluster ({answer}), which Fleet cannot use yet; let "
            "FLEET_BROKER_URL name a single server, or its Sentinels"
        )
    if word not in ("ERR", "WRONGTYPE", "NOPROTO"):
        # A module's, a proxy's or a newer server's: nobody knows that it will stay so.
        return Unavailable(f"Redis at {where} did not do it ({answer})")
    return NeverRetry(
        f"Redis at {where} refused what it was asked ({answer}); Fleet needs Redis 6.2 or newer, "
        "or Valkey, with scripts, and nobody else may write to its keys"
    )
