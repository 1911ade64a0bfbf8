#!/usr/bin/env bash
# Celery: `-P prefork` is ignored where the setting `worker_pool` names another pool. Any other value
# of -P wins over the setting. A program that wants to know which pool runs has to ask the worker.
#
# Seen with celery 5.7.0:
#   celery 5.7.0
#   worker_pool = "solo", -P prefork   -> solo
#   worker_pool = "solo", -P threads   -> thread
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet celery==5.7.0
cat > "$folder/shop.py" <<'PY'
from celery import Celery, signals

app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.worker_pool = "solo"


@signals.celeryd_after_setup.connect
def tell(sender, instance, **_):
    print("runs", instance.pool_cls.__module__.rpartition(".")[2], flush=True)
    raise SystemExit(0)
PY
cd "$folder"
"$folder/venv/bin/python" -c 'import celery; print("celery", celery.__version__)'
pool_of() { "$folder/venv/bin/celery" -A shop worker -P "$1" 2>/dev/null | sed -n 's/^runs //p'; }
explicit=$(pool_of prefork) other=$(pool_of threads)
echo "worker_pool = \"solo\", -P prefork   -> $explicit"
echo "worker_pool = \"solo\", -P threads   -> $other"
[ "$explicit" = solo ] && [ "$other" = thread ]
