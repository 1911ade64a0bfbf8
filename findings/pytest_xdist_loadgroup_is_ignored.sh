#!/usr/bin/env bash
# pytest-xdist with pytest 9.2: `--dist loadgroup` groups nothing, and says nothing. The plugin adds the
# group's name to a test's private attribute `_nodeid`, which pytest 9.2 no longer reads. Tests that
# share a group run in several processes, so each process sets up their session fixtures again. With
# pytest 9.1.1 the same plugin groups.
#
# Seen with pytest-xdist 3.8.0 (CPython 3.11, Linux x86-64), four tests of one group on two processes:
#   pytest 9.1.1   processes that ran a test of the group: 1
#   pytest 9.2.0   processes that ran a test of the group: 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/test_group.py" <<'PY'
import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(4))
def test_number(number):
    pass
PY
cd "$folder"
processes() {
  "$folder/venv/bin/pip" install --quiet "pytest==$1" pytest-xdist==3.8.0
  "$folder/venv/bin/python" -m pytest -v -n 2 --dist loadgroup test_group.py |
    grep -o '^\[gw[0-9]*\]' | sort -u | wc -l
}
before=$(processes 9.1.1)
after=$(processes 9.2.0)
echo "pytest 9.1.1   processes that ran a test of the group: $before"
echo "pytest 9.2.0   processes that ran a test of the group: $after"
[ "$before" = 1 ]
[ "$after" = 2 ]
