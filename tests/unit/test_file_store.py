"""The store `file`: what is on the disk, who may read the master key, and what was altered."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from fleet.errors import InvalidConfig, NotAllowed, SecretConflict
from fleet.secrets.file_store import FileStore
from fleet.secrets.master_key import KeyFile, Keyring, master_key_of
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment

PATH = "providers/openai"
CANARY = "sk-canary-7f3a"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.key"


@pytest.fixture
def store(data_dir: Path, key_file: Path) -> FileStore:
    return FileStore(data_dir, KeyFile(key_file, data_dir))


def version_file(data_dir: Path, path: str, version: int) -> Path:
    return data_dir / "secrets" / path / f"@{version}.json"


def test_no_value_and_no_key_is_on_the_disk(
    store: FileStore, data_dir: Path, key_file: Path
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    content = version_file(data_dir, PATH, 1).read_text()
    assert CANARY not in content
    assert key_file.read_text().strip() not in content
    for file in data_dir.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0 or file.is_dir()
    assert data_dir.stat().st_mode & 0o077 == 0


def test_each_version_has_a_data_key_of_its_own(store: FileStore, data_dir: Path) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    store.write(PATH, {"api_key": CANARY}, 1)
    first, second = (
        json.loads(version_file(data_dir, PATH, version).read_text()) for version in (1, 2)
    )
    assert first["key"] != second["key"]
    assert first["data"] != second["data"]


@pytest.mark.parametrize("to", [("providers/other", 1), (PATH, 2)], ids=["path", "version"])
def test_a_file_that_was_moved_does_not_decrypt(
    store: FileStore, data_dir: Path, to: tuple[str, int]
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    target = version_file(data_dir, *to)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(version_file(data_dir, PATH, 1), target)
    with pytest.raises(InvalidConfig, match="does not decrypt") as refused:
        store.read(*to)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("part", ["key", "data"])
def test_a_file_that_was_altered_does_not_decrypt(
    store: FileStore, data_dir: Path, part: str
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    file = version_file(data_dir, PATH, 1)
    found = json.loads(file.read_text())
    found[part] = found[part][:20] + ("A" if found[part][20] != "A" else "B") + found[part][21:]
    file.write_text(json.dumps(found))
    with pytest.raises(InvalidConfig, match="does not decrypt"):
        store.read(PATH)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"epoch": "now"}', '{"epoch": 1.0, "data": 7}', '{"epoch": 1.0, "data": "AA=="}'],
    ids=["empty", "list", "epoch", "number", "no key"],
)
def test_a_file_that_fleet_did_not_write_is_said(
    store: FileStore, data_dir: Path, content: str
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    version_file(data_dir, PATH, 1).write_text(content)
    with pytest.raises(InvalidConfig, match=r"@1\.json"):
        store.read(PATH)


def test_the_first_write_makes_a_key_for_its_owner_alone(
    store: FileStore, key_file: Path
) -> None:
    assert store.paths() == []
    assert not key_file.exists()
    store.write(PATH, {"api_key": CANARY}, 0)
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_a_lost_key_is_not_replaced_while_something_is_stored(
    store: FileStore, key_file: Path
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    key_file.unlink()
    with pytest.raises(InvalidConfig, match="restore it from your backup"):
        store.read(PATH)
    with pytest.raises(InvalidConfig, match="restore it from your backup"):
        store.write("providers/other", {"api_key": CANARY}, 0)
    assert not key_file.exists()


def test_another_key_does_not_decrypt(
    store: FileStore, data_dir: Path, key_file: Path, tmp_path: Path
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    other = KeyFile(tmp_path / "other.key", data_dir)
    other.create()
    with pytest.raises(InvalidConfig, match="the key is another"):
        FileStore(data_dir, other).read(PATH)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644], ids=oct)
def test_a_key_that_others_may_use_is_refused(
    store: FileStore, key_file: Path, mode: int
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    key_file.chmod(mode)
    for ask in (lambda: store.read(PATH), lambda: store.write(PATH, {"api_key": "x"}, 1)):
        with pytest.raises(InvalidConfig, match="chmod 600"):
            ask()


def test_a_key_of_another_user_is_refused(
    store: FileStore, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    found = key_file.stat()
    theirs = os.stat_result((*found[:4], 12345, *found[5:]))
    monkeypatch.setattr(os, "fstat", lambda _: theirs)
    with pytest.raises(InvalidConfig, match="belongs to user 12345"):
        store.read(PATH)


@pytest.mark.parametrize("linked", [False, True], ids=["there", "linked"])
def test_a_key_inside_the_data_folder_is_refused(
    data_dir: Path, tmp_path: Path, linked: bool
) -> None:
    place = data_dir / "master.key"
    if linked:
        data_dir.mkdir()
        place = tmp_path / "link"
        place.symlink_to(data_dir)
        place /= "master.key"
    with pytest.raises(InvalidConfig, match="it would protect nothing"):
        FileStore(data_dir, KeyFile(place, data_dir)).write(PATH, {"api_key": CANARY}, 0)
    assert not place.exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, b"QUJD"], ids=repr)
def test_a_file_that_holds_no_key_is_refused_and_not_shown(
    store: FileStore, key_file: Path, content: bytes
) -> None:
    key_file.parent.mkdir()
    key_file.touch(mode=0o600)
    key_file.write_bytes(content)
    with pytest.raises(InvalidConfig, match="holds no master key") as refused:
        store.write(PATH, {"api_key": CANARY}, 0)
    assert "short" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_said(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfig, match="set FLEET_MASTER_KEY_FILE"):
        KeyFile(tmp_path / "file" / "master.key", data_dir).create()


def test_two_processes_that_make_a_key_have_the_same(data_dir: Path, key_file: Path) -> None:
    first, second = (KeyFile(key_file, data_dir) for _ in range(2))
    assert first.create() == second.create() == first.read()


def _write(data_dir: Path, key_file: Path, number: int) -> int | None:
    try:
        store = FileStore(data_dir, KeyFile(key_file, data_dir))
        return store.write(PATH, {"api_key": f"key-{number}"}, 0)
    except SecretConflict:
        return None


def test_of_processes_that_write_at_the_same_time_one_wins(data_dir: Path, key_file: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        written = list(pool.map(_write, [data_dir] * 6, [key_file] * 6, range(6)))
    assert sorted(filter(None, written)) == [1]
    winner = written.index(1)
    found = FileStore(data_dir, KeyFile(key_file, data_dir)).read(PATH)
    assert found.fields == {"api_key": f"key-{winner}"}


def test_a_write_that_dies_in_the_middle_leaves_what_was_there(
    store: FileStore, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)

    class Killed(BaseException):
        """The process is gone."""

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "link", die)
    with pytest.raises(Killed):
        store.write(PATH, {"api_key": "two"}, 1)
    monkeypatch.undo()
    assert [each.version for each in store.versions(PATH)] == [1]
    assert store.write(PATH, {"api_key": "two"}, 1) == 2


def test_a_destroyed_version_holds_nothing(store: FileStore, data_dir: Path) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    store.destroy(PATH, 1)
    assert set(json.loads(version_file(data_dir, PATH, 1).read_text())) == {"epoch"}
    assert [file.name for file in version_file(data_dir, PATH, 1).parent.iterdir()] == ["@1.json"]


def test_files_of_another_user_are_not_allowed(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "secrets/providers")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(NotAllowed, match="run the command as the user of the fleet"):
        store.read(PATH)


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring of the operating system."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked
        self.entries[service, username] = password


@pytest.fixture
def memory_keyring() -> Iterator[MemoryKeyring]:
    found, before = MemoryKeyring(), keyring.get_keyring()
    keyring.set_keyring(found)
    yield found
    keyring.set_keyring(before)


def test_a_key_in_the_keyring_protects_the_store(
    memory_keyring: MemoryKeyring, data_dir: Path
) -> None:
    store = FileStore(data_dir, Keyring("fleet"))
    store.write(PATH, {"api_key": CANARY}, 0)
    assert store.read(PATH).fields == {"api_key": CANARY}
    assert list(memory_keyring.entries) == [("fleet", "fleet")]
    memory_keyring.entries.clear()
    with pytest.raises(InvalidConfig, match="there is no master key"):
        store.read(PATH)


def test_a_keyring_that_is_locked_is_said(memory_keyring: MemoryKeyring, data_dir: Path) -> None:
    memory_keyring.is_locked = True
    with pytest.raises(InvalidConfig, match="KeyringLocked"):
        FileStore(data_dir, Keyring("fleet")).write(PATH, {"api_key": CANARY}, 0)
    with pytest.raises(InvalidConfig, match="KeyringLocked"):
        Keyring("fleet").create()


def test_a_keyring_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(InvalidConfig, match=r"fleet\[keyring\]"):
        Keyring("fleet").read()


def test_the_settings_choose_the_master_key(tmp_path: Path) -> None:
    def chosen(text: str) -> object:
        environment = Environment(data_dir=tmp_path / "data", master_key_file=tmp_path / "key")
        return master_key_of(Settings(environment, parse_config(text, "test"), "test"))

    assert isinstance(chosen('[secrets]\nmaster_key = "keyring"'), Keyring)
    found = chosen("")
    assert isinstance(found, KeyFile)
    assert found.path == tmp_path / "key"
