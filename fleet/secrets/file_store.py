"""The store `file`: encrypted files in the data folder, for one machine or a shared folder.

Envelope encryption: each version has a data key of its own (AES-256-GCM), and the master key
encrypts the data key. Path and version are associated data of both, so that a file that was moved
or renamed does not decrypt. A version is a file that is created complete or not at all, and only
where there is none of its name: this is the check-and-set, also between processes.

    DATA_DIR/secrets/providers/openai/@1.json
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.errors import InvalidConfig, NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.secrets.master_key import RESTORE, MasterKey
from fleet.secrets.store import newest_of, written_before
from fleet.secrets.values import Secret, SecretVersion, check_fields, check_path
from fleet.settings.data_folder import make_private

FOLDER = "secrets"
LOCK_FILE = ".master-key.lock"
VERSION_FILE = re.compile(r"@([1-9][0-9]{0,8})\.json")
KEY_BYTES, NONCE_BYTES = 32, 12


class FileStore:
    """Secrets in files below the data folder."""

    name = "file"
    is_writable = True

    def __init__(
        self, data_dir: Path, master_key: MasterKey, clock: Callable[[], float] = time.time
    ) -> None:
        self._data_dir = data_dir
        self._root = data_dir / FOLDER
        self._master_key = master_key
        self._clock = clock

    def read(self, path: str, version: int | None = None) -> Secret:
        """A version of a secret. Raises `SecretNotFound`, and `InvalidConfig` if its file is
        altered or the master key is another."""
        check_path(path)
        if version is None:
            version = max((v.version for v in self.versions(path) if not v.destroyed), default=0)
        found = self._kept(path, version)
        if found is None or "data" not in found:
            what = f"version {version} of {path}" if version else path
            raise SecretNotFound(f"{what} is not in {self._root}; set it with `fleet secrets set`")
        fields = self._opened(path, version, found)
        return Secret(path, version, fields, found["epoch"], self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Write the next version."""
        check_path(path)
        check_fields(fields)
        if newest_of(self._known(path)) != expected:
            return written_before(self, path, fields, expected)
        version = expected + 1
        sealed = self._sealed(path, version, fields)
        if not self._create(path, version, sealed):
            return written_before(self, path, fields, expected)
        return version

    def versions(self, path: str) -> list[SecretVersion]:
        """Every version, oldest first."""
        check_path(path)
        found = self._known(path)
        if not found:
            raise SecretNotFound(f"{path} is not in {self._root}; set it with `fleet secrets set`")
        return found

    def paths(self, prefix: str = "") -> list[str]:
        """The paths below a prefix, sorted."""
        found = set()
        with _refusals(self._root):
            for folder, _, names in os.walk(self._root, onerror=_unless_absent):
                if any(VERSION_FILE.fullmatch(name) for name in names):
                    found.add(Path(folder).relative_to(self._root).as_posix())
        return sorted(path for path in found if path.startswith(prefix))

    def destroy(self, path: str, version: int) -> None:
        """Replace the file of a version by one without its values."""
        check_path(path)
        found = self._kept(path, version)
        if found is not None and "data" in found:
            with _refusals(self._root):
                part = self._part(path, {"epoch": found["epoch"]})
                part.replace(self._file(path, version))
                _sync(part.parent)

    def _known(self, path: str) -> list[SecretVersion]:
        """Every version, oldest first. Empty if there is none."""
        with _refusals(self._root):
            try:
                names = [file.name for file in (self._root / path).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        numbers = sorted(int(found[1]) for name in names if (found := VERSION_FILE.fullmatch(name)))
        kept = ((number, self._kept(path, number)) for number in numbers)
        return [SecretVersion(n, each["epoch"], "data" not in each) for n, each in kept if each]

    def _kept(self, path: str, version: int) -> dict[str, Any] | None:
        """What the file of a version holds. None if there is none."""
        file = self._file(path, version)
        with _refusals(self._root):
            try:
                found = json.loads(file.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError:
                found = None
        if not isinstance(found, dict) or not isinstance(found.get("epoch"), float):
            raise InvalidConfig(f"{file}: is no secret that Fleet wrote; restore it from a backup")
        return found

    def _sealed(self, path: str, version: int, fields: Mapping[str, str]) -> dict[str, Any]:
        """The content of a version's file."""
        data_key = os.urandom(KEY_BYTES)
        bound = _bound_to(path, version)
        return {
            "epoch": self._clock(),
            "key": _encrypted(self._key(or_new=True), data_key, bound),
            "data": _encrypted(data_key, json.dumps(dict(fields)).encode(), bound),
        }

    def _opened(self, path: str, version: int, found: Mapping[str, Any]) -> dict[str, str]:
        """The fields in the content of a version's file."""
        from cryptography.exceptions import InvalidTag

        bound = _bound_to(path, version)
        try:
            data_key = _decrypted(self._key(), found["key"], bound)
            fields: dict[str, str] = json.loads(_decrypted(data_key, found["data"], bound))
        except (InvalidTag, ValueError, TypeError, KeyError):
            raise InvalidConfig(
                f"{self._file(path, version)}: does not decrypt with the master key in "
                f"{self._master_key.place}: the file was altered, or the key is another; restore "
                "them from your backup"
            ) from None
        return fields

    def _key(self, or_new: bool = False) -> bytes:
        """The master key. A new one is made only if nothing is stored yet."""
        key = self._master_key.read()
        if key is None and or_new and not self.paths():
            make_private(self._data_dir)
            with _refusals(self._root), _locked(self._data_dir / LOCK_FILE):
                # A keyring has no check-and-set: two first keys would replace each other.
                key = self._master_key.read() or self._master_key.create()
        if key is None:
            raise InvalidConfig(f"{self._master_key.place}: there is no master key; {RESTORE}")
        return key

    def _create(self, path: str, version: int, content: Mapping[str, Any]) -> bool:
        """Write the file of a version. False if there is one."""
        with _refusals(self._root):
            part = self._part(path, content)
            try:
                os.link(part, self._file(path, version))
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
            _sync(part.parent)
        return True

    def _part(self, path: str, content: Mapping[str, Any]) -> Path:
        """A complete file with another name in the folder of a secret."""
        make_private(self._data_dir)
        folder = self._root / path
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=folder, prefix=".part")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def _file(self, path: str, version: int) -> Path:
        return self._root / path / f"@{version}.json"


def _bound_to(path: str, version: int) -> bytes:
    """The associated data of a version."""
    return json.dumps(["fleet", path, version]).encode()


def _encrypted(key: bytes, content: bytes, bound: bytes) -> str:
    """AES-256-GCM: nonce, ciphertext and tag, as Base64."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, content, bound)).decode()


def _decrypted(key: bytes, content: str, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    whole = base64.b64decode(content, validate=True)
    return AESGCM(key).decrypt(whole[:NONCE_BYTES], whole[NONCE_BYTES:], bound)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock between processes."""
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _unless_absent(error: OSError) -> None:
    """Let a walk over a folder fail as opening the folder does. One that is gone is no failure."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _refusals(root: Path) -> Iterator[None]:
    """Translate the errors of the file system."""
    try:
        yield
    except PermissionError as error:
        raise NotAllowed(
            f"{error.filename or root}: the user of this process may not use it; run the command "
            "as the user of the fleet"
        ) from error
    except OSError as error:
        raise SecretsUnavailable(
            f"{error.filename or root}: the store of secrets does not work ({error.strerror})"
        ) from error
