#!/usr/bin/env bash
# Celery: a task that succeeds can have both its callback and its error callback sent.
#
# The tracer sends the callback first and stores the result after it. Where the result store fails in
# that moment, and answers again in the next, the tracer takes its error for the task's own: it stores
# FAILURE for a task that has returned, and sends the error callback too.
#
# Exits with 0 while the behaviour is as shown at the end of this file, and with 1 once it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "celery==5.7.0" "kombu==5.7.0"

cat > "$folder/show.py" <<'PYTHON'
import warnings

import celery
from celery import Celery
from celery.app.trace import build_tracer

warnings.simplefilter("ignore")
app = Celery("shop", broker="memory://", backend="cache+memory://")


@app.task(name="shop.pack")
def pack():
    return "packed"


sent, failures = [], iter([ConnectionError("the result store is away")])
app.send_task = lambda name, *arguments, **options: sent.append(name)
store = pack.backend.store_result


def store_result(*arguments, **options):
    for error in failures:
        raise error
    return store(*arguments, **options)


pack.backend.store_result = store_result
request = {
    "id": "1",
    "ignore_result": False,
    "callbacks": [app.signature("shop.then")],
    "errbacks": [app.signature("shop.else")],
    "delivery_info": {},
}
build_tracer(pack.name, pack, app=app)("1", [], {}, request)
state = app.AsyncResult("1").state
print(f"celery {celery.__version__}: sent {sorted(sent)}, stored {state}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/shown"

grep -qx "celery 5.7.0: sent \['shop.else', 'shop.then'\], stored FAILURE" "$folder/shown"

# Seen on 2026-11-30:
# celery 5.7.0: sent ['shop.else', 'shop.then'], stored FAILURE
