#!/usr/bin/env bash
# Celery: `celery worker` imports every package that announces a `celery.commands` entry point, whatever
# command is run. Where Flower is installed each worker process therefore loads Flower and Tornado:
# it starts later and holds more memory, and nothing of it is used. Removing Flower from the workers'
# image is the way out; no option of Celery's skips the plugins.
#
# Seen with celery 5.7.0, flower 2.2.0 (CPython 3.11, Linux x86-64), in the process of `celery worker`:
#   without flower   tornado loaded: False   flower loaded: False
#   with flower      tornado loaded: True    flower loaded: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet celery==5.7.0
cat > "$folder/shop.py" <<'PY'
import sys

from celery import Celery, signals

app = Celery("shop", broker="memory://", backend="cache+memory://")


@signals.celeryd_after_setup.connect
def tell(**_):
    loaded = {name: name in sys.modules for name in ("tornado", "flower")}
    print("loaded", *(f"{name} loaded: {value}" for name, value in loaded.items()), sep="|", flush=True)
    raise SystemExit(0)
PY
cd "$folder"
loaded() { "$folder/venv/bin/celery" -A shop worker -P solo 2>/dev/null | sed -n 's/^loaded|//p' | tr '|' ' '; }
before=$(loaded)
"$folder/venv/bin/pip" install --quiet flower==2.2.0
after=$(loaded)
echo "without flower   $before"
echo "with flower      $after"
[ "$before" = "tornado loaded: False flower loaded: False" ]
[ "$after" = "tornado loaded: True flower loaded: True" ]
