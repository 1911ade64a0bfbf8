"""What each error that Redis answers with means, whichever way it reaches Fleet."""

from __future__ import annotations

import pytest
import redis
from redis import exceptions

from fleet.errors import FleetError, InvalidConfig, NeverRetry, NotAllowed, Unavailable
from fleet.redis.client import redis_errors
from fleet.redis.replies import TEMPORARY

CLIENT = redis.Redis(port=1)
PARSE = redis._parsers.BaseParser.parse_error  # type: ignore[attr-defined]

ANSWERS: dict[str, type[FleetError]] = {
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist": Unavailable,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL": Unavailable,
    "UNKILLABLE Sorry the script already executed write commands": Unavailable,
    "LOADING Redis is loading the dataset in memory": Unavailable,
    "READONLY You can't write against a read only replica.": Unavailable,
    "OOM command not allowed when used memory > 'maxmemory'.": Unavailable,
    "NOSCRIPT No matching script. Please use EVAL.": Unavailable,
    "MASTERDOWN Link with MASTER is down": Unavailable,
    "CLUSTERDOWN The cluster is down": Unavailable,
    "NOREPLICAS Not enough good replicas to write.": Unavailable,
    "TRYAGAIN Multiple keys request during rehashing of slot": Unavailable,
    "EXECABORT Transaction discarded because of previous errors.": Unavailable,
    "UNBLOCKED force unblock from blocking operation": Unavailable,
    "ERR max number of clients reached": Unavailable,
    "NEWWORD of a server to come": Unavailable,
    "NOAUTH Authentication required.": NotAllowed,
    "WRONGPASS invalid username-password pair": NotAllowed,
    "NOPERM this user has no permissions to run the 'evalsha' command": NotAllowed,
    "DENIED Redis is running in protected mode": NotAllowed,
    "ERR invalid password": NotAllowed,
    "ERR ACL failure in script: User less has no permissions to run the 'lpush' command "
    "script: on @user_script:839.": NotAllowed,
    "ERR The user executing the script can't run this command or subcommand": NotAllowed,
    "MOVED 3999 127.0.0.1:6381": InvalidConfig,
    "ASK 3999 127.0.0.1:6381": InvalidConfig,
    "CROSSSLOT Keys in request don't hash to the same slot": InvalidConfig,
    "ERR unknown command 'EVALSHA'": NeverRetry,
    "WRONGTYPE Operation against a key holding the wrong kind of value": NeverRetry,
    "NOPROTO unsupported protocol version": NeverRetry,
}


def translated(error: Exception) -> FleetError:
    with pytest.raises(FleetError) as told, redis_errors(CLIENT):
        raise error
    assert told.value.__cause__ is error
    return told.value


def in_a_pipeline(error: Exception) -> Exception:
    """What redis-py makes of an answer to a part of a pipeline."""
    words = f"Command # 2 (HSET key secret) of pipeline caused error: {error.args[0]}"
    error.args = (words, *error.args[1:])
    return error


def without_its_word(error: Exception) -> Exception:
    """The same error made again of its class and arguments, as for those who share a round trip."""
    return type(error)(*error.args)


@pytest.mark.parametrize(("answer", "kind"), ANSWERS.items())
def test_the_first_word_decides(answer: str, kind: type[FleetError]) -> None:
    assert type(translated(PARSE(answer))) is kind
    assert type(translated(without_its_word(PARSE(answer)))) is kind
    told = translated(in_a_pipeline(PARSE(answer)))
    assert type(told) is kind
    assert "secret" not in str(told)


def test_the_arguments_of_an_unknown_command_are_not_repeated() -> None:
    reply = "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'fleet' 'hush-hush'"
    told = str(translated(PARSE(reply)))
    assert "unknown command 'HELLO')" in told
    assert "hush" not in told


@pytest.mark.parametrize("word", TEMPORARY)
def test_every_word_of_a_server_that_cannot_now_is_read_in_the_scripts_of_redis_6(
    word: str,
) -> None:
    where = "Error running script (call to f_6b1b): @user_script:12: @user_script: 12:"
    told = translated(PARSE(f"ERR {where} -{word} x"))
    assert type(told) is Unavailable
    assert f"({word} x); nothing was written" in str(told)


def test_a_silent_server_is_no_answer() -> None:
    assert "does not answer" in str(translated(exceptions.ConnectionError("refused")))
    assert "does not answer" in str(translated(exceptions.TimeoutError("timed out")))


def test_another_service_behind_the_address_is_named_as_that() -> None:
    told = translated(exceptions.InvalidResponse("Protocol error, got 'H' as reply type byte"))
    assert isinstance(told, Unavailable)
    assert "does not speak Redis's protocol" in str(told)


def test_a_fault_of_the_caller_passes_as_it_is() -> None:
    with pytest.raises(exceptions.DataError), redis_errors(CLIENT):
        raise exceptions.DataError("Invalid input of type: 'dict'")
