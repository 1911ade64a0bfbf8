#!/usr/bin/env bash
# Vault's Transit engine cannot rewrap what was encrypted with associated data.
#
# `encrypt` and `decrypt` take `associated_data` for AEAD keys, and a value decrypts only with the same
# data. `rewrap`, which moves a value to the newest version of a key without showing it, has no such
# parameter in Vault, and so none in hvac: it decrypts without the data, and fails. Whoever binds values
# to their place cannot leave an old key behind by `rewrap`, and has to decrypt and encrypt.
#
# It needs a Vault: VAULT_ADDR, and VAULT_TOKEN with the right to mount an engine.
#
# Seen with Vault 1.21.1 and hvac 2.4.0 on 2026-12-01:
#     rewrap without associated data: vault:v2
#     rewrap with associated data: cipher: message authentication failed
set -euo pipefail
: "${VAULT_ADDR:?name a Vault}" "${VAULT_TOKEN:?give a token that may mount engines}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hvac==2.4.0
cat > "$folder/rewrap.py" <<'PY'
import base64
from uuid import uuid4

import hvac

vault = hvac.Client()
mount = f"finding-{uuid4().hex}"
vault.sys.enable_secrets_engine("transit", path=mount)
transit = vault.secrets.transit
try:
    transit.create_key("key", key_type="aes256-gcm96", mount_point=mount)
    text, place = (base64.b64encode(each).decode() for each in (b"value", b"its place"))
    sealed = {
        name: transit.encrypt_data(
            "key", plaintext=text, associated_data=data, mount_point=mount
        )["data"]["ciphertext"]
        for name, data in (("without", None), ("with", place))
    }
    transit.rotate_key("key", mount_point=mount)
    for name, ciphertext in sealed.items():
        try:
            found = transit.rewrap_data("key", ciphertext, mount_point=mount)
            told = found["data"]["ciphertext"].rpartition(":")[0]
        except hvac.exceptions.InvalidRequest as error:
            told = error.errors[0]
        print(f"rewrap {name} associated data: {told}")
finally:
    vault.sys.disable_secrets_engine(mount)
PY
found=$("$folder/venv/bin/python" "$folder/rewrap.py")
echo "$found"
grep -q "rewrap with associated data: cipher: message authentication failed" <<< "$found" ||
  { echo "this has changed" >&2; exit 1; }
