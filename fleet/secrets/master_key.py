"""The master key of the store `file`. It is kept apart from what it protects.

It is a file for its owner alone, outside the data folder, or an entry of the operating system's
keyring. The first write of a secret creates it. It is 32 bytes, written as Base64.
"""

from __future__ import annotations

import base64
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Protocol

from fleet.errors import InvalidConfig, extra_missing
from fleet.settings import Settings

BYTES = 32
SERVICE = "fleet"
DEFAULT_FILE = Path("~/.config/fleet/master.key")
RESTORE = "restore it from your backup: secrets that are stored need the key that wrote them"


class MasterKey(Protocol):
    """Where a master key is."""

    place: str

    def read(self) -> bytes | None:
        """The key, or None if there is none. Raises `InvalidConfig` if it cannot be used."""

    def create(self) -> bytes:
        """Make a key, unless another process has just made one, and return it. Raises
        `InvalidConfig`."""


class KeyFile:
    """A master key in a file that only its owner may read."""

    def __init__(self, path: Path, data_dir: Path) -> None:
        self.path = path.expanduser()
        self.place = str(self.path)
        self._data_dir = data_dir

    def read(self) -> bytes | None:
        """The key, or None if there is no such file."""
        self._check_place()
        try:
            with self.path.open("rb") as file:
                self._check_rights(os.fstat(file.fileno()))
                content = file.read(BYTES * 4)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidConfig(
                f"{self.path}: the master key cannot be read ({error.strerror}); make it readable "
                "for the user of the fleet"
            ) from error
        return _decoded(content, self.place)

    def create(self) -> bytes:
        """Write a new key to the file. It appears complete or not at all."""
        self._check_place()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}")
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(_encoded(secrets.token_bytes(BYTES)) + b"\n")
                    os.fsync(file.fileno())
                os.link(name, self.path)
            except FileExistsError:
                # Another process was first: its key is the key.
                pass
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise InvalidConfig(
                f"{self.path}: the master key cannot be written ({error.strerror}); set "
                "FLEET_MASTER_KEY_FILE to a file that can be, outside the data folder"
            ) from error
        key = self.read()
        assert key is not None
        return key

    def _check_place(self) -> None:
        if self.path.resolve().is_relative_to(self._data_dir.resolve()):
            raise InvalidConfig(
                f"{self.path}: the master key is inside the data folder {self._data_dir}, so it "
                "would protect nothing; move it elsewhere and set FLEET_MASTER_KEY_FILE"
            )

    def _check_rights(self, found: os.stat_result) -> None:
        if found.st_mode & 0o077:
            raise InvalidConfig(
                f"{self.path}: others may use the master key (mode {found.st_mode & 0o777:o}); "
                f"run: chmod 600 {self.path}"
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise InvalidConfig(
                f"{self.path}: the master key belongs to user {found.st_uid}; give it to the user "
                "of the fleet"
            )


class Keyring:
    """A master key in the keyring of the operating system."""

    def __init__(self, namespace: str) -> None:
        self.place = f"the keyring's entry {SERVICE}, {namespace}"
        self._entry = namespace

    def read(self) -> bytes | None:
        """The key, or None if the keyring has none."""
        keyring = _keyring()
        try:
            found = keyring.get_password(SERVICE, self._entry)
        except keyring.errors.KeyringError as error:
            raise self._unusable(error) from None
        return None if found is None else _decoded(found.encode(), self.place)

    def create(self) -> bytes:
        """Put a new key into the keyring."""
        keyring = _keyring()
        key = secrets.token_bytes(BYTES)
        try:
            keyring.set_password(SERVICE, self._entry, _encoded(key).decode())
        except keyring.errors.KeyringError as error:
            raise self._unusable(error) from None
        return key

    def _unusable(self, error: Exception) -> InvalidConfig:
        return InvalidConfig(
            f"secrets.master_key: the keyring cannot be used here ({type(error).__name__}); unlock "
            'it, or set secrets.master_key = "file"'
        )


def master_key_of(settings: Settings) -> MasterKey:
    """The configured master key. Reads nothing yet."""
    environment = settings.environment
    if settings.config.secrets.master_key == "keyring":
        return Keyring(settings.namespace)
    return KeyFile(environment.master_key_file or DEFAULT_FILE, environment.data_dir)


def _keyring() -> Any:
    # Imported on first use: only this kind of master key needs the package.
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise extra_missing("a master key in the keyring", "keyring") from error
    return keyring


def _encoded(key: bytes) -> bytes:
    return base64.b64encode(key)


def _decoded(content: bytes, place: str) -> bytes:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != BYTES:
        raise InvalidConfig(f"{place}: holds no master key, {BYTES} bytes as Base64; {RESTORE}")
    return key
