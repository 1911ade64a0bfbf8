#!/usr/bin/env bash
# Two calls of `shrink(1)` on a pool of billiard end one process, and count two.
#
# Celery's remote control `pool_shrink` and its autoscaler call `Pool.shrink`. It picks the first
# processes that run nothing, and a process that was told to end stays first in the list until the pool
# has joined it. A second call within that moment picks the same one again. The pool then counts one
# process fewer than live, and nothing ends the surplus. `shrink(2)` in one call ends two.
#
# Seen with billiard 4.3.2 on 2026-12-01:
#     shrink(1) twice: counted 2, alive 3
#     shrink(2) once: counted 2, alive 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check billiard==4.3.2
cat > "$folder/shrink.py" <<'PY'
import time

from billiard.pool import Pool


def settled(*shrinks):
    """How many processes the pool counts, and how many live two seconds after some shrinks."""
    pool = Pool(4)
    time.sleep(1)
    for processes in shrinks:
        pool.shrink(processes)
    time.sleep(2)
    found = pool._processes, sum(each.is_alive() for each in pool._pool)
    pool.terminate()
    return found


if __name__ == "__main__":
    for name, shrinks in (("shrink(1) twice", (1, 1)), ("shrink(2) once", (2,))):
        counted, alive = settled(*shrinks)
        print(f"{name}: counted {counted}, alive {alive}")
PY
found=$("$folder/venv/bin/python" "$folder/shrink.py")
echo "$found"
[ "$found" = "shrink(1) twice: counted 2, alive 3
shrink(2) once: counted 2, alive 2" ] || { echo "this has changed" >&2; exit 1; }
