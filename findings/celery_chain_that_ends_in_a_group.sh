#!/usr/bin/env bash
# Celery: when a step of a chain fails, a task or a chord at the chain's end is FAILURE, a group at its
# end stays PENDING for ever, so `ready()` of the result that the caller holds never becomes true.
#
# The failure is stored for each later step by its own id. A group has none that anybody looks at: its
# result is ready when its members are, and for these nothing is stored.
#
# Exits with 0 while the behaviour is as shown at the end of this file, and with 1 once it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "celery==5.7.0" "kombu==5.7.0"

cat > "$folder/show.py" <<'PYTHON'
import logging
import time
import warnings

import celery
from celery import Celery, chain, group
from celery.contrib.testing.worker import start_worker

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
app = Celery("shop", broker="memory://", backend="cache+memory://")


@app.task
def sell():
    raise ValueError("sold out")


@app.task
def pack(*_):
    return "packed"


def wait_for_failure(result):
    until = time.monotonic() + 20
    while result.state != "FAILURE" and time.monotonic() < until:
        time.sleep(0.05)
    assert result.state == "FAILURE", result.state


print("celery", celery.__version__)
with start_worker(app, perform_ping_check=False, loglevel="CRITICAL"):
    task = chain(sell.si(), pack.si())()
    chord = chain(sell.si(), group(pack.si(), pack.si()), pack.s())()
    members = chain(sell.si(), group(pack.si(), pack.si()))()
    for first in (task.parent, chord.parent.parent, members.parent):
        wait_for_failure(first)
    time.sleep(2)
    found = {
        "a task at its end": task.state,
        "a chord at its end": chord.state,
        "a group at its end": [each.state for each in members.results],
    }
for what, state in found.items():
    print(f"{what}: {state}")
wanted = ["FAILURE", "FAILURE", ["PENDING", "PENDING"]]
raise SystemExit(list(found.values()) != wanted)
PYTHON

"$folder/venv/bin/python" "$folder/show.py"

# Seen with Python 3.11:
#
#   celery 5.7.0
#   a task at its end: FAILURE
#   a chord at its end: FAILURE
#   a group at its end: ['PENDING', 'PENDING']
