"""The sender of one side, a process: `python -m idler.send fleet`.

It says `ready` when it may send. Then it takes lines of a count and the seconds of each task,
sends those tasks one way or the other as its side's documentation has it, and says `sent`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

Send = Callable[[int, float], object]

AT_ONCE = 100
LOOK_SECONDS = 0.1
START_SECONDS = 60.0


def fleet() -> Send:
    """`submit_many`, a hundred at a time, as soon as all agents are there."""
    from fleet import Fleet, Submission

    found = Fleet.from_env()
    agents, give_up = int(os.environ["IDLER_PROCESSES"]), time.monotonic() + START_SECONDS
    while sum(pool.live_agents for pool in found.pools()) < agents:
        if time.monotonic() > give_up:
            sys.exit(f"not all {agents} agents are there after {START_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)

    def send(count: int, seconds: float) -> None:
        task = Submission("idling", {"seconds": seconds})
        for sent in range(0, count, AT_ONCE):
            found.submit_many([task] * min(AT_ONCE, count - sent))

    return send


def celery() -> Send:
    """`delay`, one after the other: Celery documents no way to send many at once."""
    from idler.celery_side import idle

    return _one_by_one(idle.delay)


def dramatiq() -> Send:
    """`send`, one after the other."""
    from idler.dramatiq_side import idle

    return _one_by_one(idle.send)


def taskiq() -> Send:
    """`kiq`, a hundred awaited at a time."""
    import asyncio

    from idler.taskiq_side import broker, idle

    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())

    async def send_all(count: int, seconds: float) -> None:
        for sent in range(0, count, AT_ONCE):
            many = min(AT_ONCE, count - sent)
            await asyncio.gather(*(idle.kiq(seconds) for _ in range(many)))

    return lambda count, seconds: loop.run_until_complete(send_all(count, seconds))


def huey() -> Send:
    """A call of the task, one after the other."""
    from idler.huey_side import idle

    return _one_by_one(idle)


def _one_by_one(send_one: Callable[[float], object]) -> Send:
    def send(count: int, seconds: float) -> None:
        for _ in range(count):
            send_one(seconds)

    return send


def main(side: str) -> None:
    """Send what the lines of standard input ask for, until it ends."""
    sides = {each.__name__: each for each in (fleet, celery, dramatiq, taskiq, huey)}
    send = sides[side]()
    print("ready", flush=True)
    for line in sys.stdin:
        count, seconds = line.split()
        send(int(count), float(seconds))
        print("sent", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
