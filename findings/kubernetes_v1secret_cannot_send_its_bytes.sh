#!/usr/bin/env bash
# The Python client of Kubernetes takes bytes as the data of a Secret, and cannot send them.
#
# By its type, `V1Secret.data` is a map of names to bytes or text. With bytes the request fails before it
# is sent, since JSON has none. Base64 as text works, and that is also what a read returns.
#
# Seen with kubernetes 37.0.1 on 2026-12-01:
#     bytes: Object of type bytes is not JSON serializable
#     text: {"data": {"key": "b25l"}}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes==37.0.1
cat > "$folder/secret.py" <<'PY'
import json

from kubernetes import client

api = client.ApiClient()
for name, value in (("bytes", b"one"), ("text", "b25l")):
    try:
        secret = client.V1Secret(data={"key": value})
        print(f"{name}:", json.dumps(api.sanitize_for_serialization(secret)))
    except TypeError as error:
        print(f"{name}:", error)
PY
found=$("$folder/venv/bin/python" "$folder/secret.py")
echo "$found"
grep -q "bytes: Object of type bytes is not JSON serializable" <<< "$found" ||
  { echo "this has changed" >&2; exit 1; }
