"""Translates error replies of Redis into Fleet's errors, by their first word.

    retry later      the server cannot take the call now: it loads, it is busy, its disk is full
    not allowed      the user, the password or the user's rights are wrong
    never retry      the server or its configuration has to be changed first

redis-py has a class for some of these words, and then cuts the word off. It raises the others as
`ResponseError`. In a pipeline, it puts text in front of the reply. A server before Redis 7 puts
text in front of an error within a script. All four forms are read here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import redis
from redis import exceptions

from fleet.errors import FleetError, InvalidConfig, NeverRetry, NotAllowed, Unavailable

TEMPORARY = {
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
"""First words of a server that may take the same call later, each with the reason."""

ACCESS_DENIED = frozenset({"DENIED", "NOAUTH", "NOPERM", "WRONGPASS"})
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
"""The words that redis-py has cut off, by its classes; derived classes come first."""

TOO_MANY_CLIENTS = "max number of clients"
NOT_IN_A_SCRIPT = ("ACL failure in script", "can't run this command or subcommand")
"""How Redis and Valkey report that a script's caller lacks a right."""

IN_A_PIPELINE = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
ARGUMENTS = re.compile(r",? with args beginning with: .*", re.DOTALL)
"""What follows an unknown command: its arguments, of which one may be a password."""
IN_A_SCRIPT = re.compile(r".*@user_script: ?\d+: -?(?=[A-Z]{2,}\b)", re.DOTALL)
FIRST_WORD = re.compile(r"^-?([A-Z]{2,})(?: |$)")


class Answer(NamedTuple):
    """An error reply of Redis: its first word, '' for none, and the rest."""

    word: str
    rest: str

    def __str__(self) -> str:
        return f"{self.word} {self.rest}".strip()


def answer_of(error: redis.RedisError) -> Answer | None:
    """The error reply of Redis in an error; None if no reply came."""
    words = (word for kind, word in WORDS.items() if isinstance(error, kind))
    known = next(words, getattr(error, "status_code", None) or "")
    reply = ARGUMENTS.sub("", IN_A_PIPELINE.sub("", str(error)))
    if not known and not isinstance(error, exceptions.ResponseError):
        return Answer("ERR", reply) if TOO_MANY_CLIENTS in reply else None
    if known in ("", "ERR"):
        reply = IN_A_SCRIPT.sub("", reply)
        first = FIRST_WORD.match(reply)
        known, reply = (first[1], reply[first.end() :]) if first else (known or "ERR", reply)
    return Answer(known, reply)


def translated(answer: Answer, where: str) -> FleetError:
    """Fleet's error for an error reply of the Redis at a place."""
    word, rest = answer
    if word in ACCESS_DENIED or any(words in str(answer) for words in NOT_IN_A_SCRIPT):
        return NotAllowed(
            f"Redis refused the user, the password or the user's rights ({answer}); check "
            "FLEET_BROKER_URL, and give the user the rights that docs/brokers.md names"
        )
    if word in TEMPORARY or TOO_MANY_CLIENTS in rest:
        reason = TEMPORARY.get(word, "it has as many clients as it takes; raise maxclients")
        return Unavailable(
            f"Redis cannot take the call now ({answer}); nothing was written. Reason: {reason}"
        )
    if word in NOT_A_CLUSTER:
        return InvalidConfig(
            f"Redis at {where} is a part of a cluster ({answer}), which Fleet cannot use yet; name "
            "a single server, or its Sentinels, in FLEET_BROKER_URL"
        )
    if word not in ("ERR", "WRONGTYPE", "NOPROTO"):
        # An unknown error of a module, a proxy or a newer server may be temporary.
        return Unavailable(f"Redis at {where} did not execute the call ({answer})")
    return NeverRetry(
        f"Redis at {where} refused the call ({answer}); Fleet needs Redis 6.2 or newer, "
        "or Valkey, with scripts, and nobody else may write to its keys"
    )
