"""The data folder is for its owner alone, wherever it is made."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import InvalidConfig
from fleet.ledger.files import LedgerFiles
from fleet.ledger.rules.entries import NUMBERS, LedgerEntry
from fleet.local import finishing
from fleet.local.alive import show_alive
from fleet.local.run_file import make_data_dir
from fleet.models.price_files import store_text
from fleet.secrets.file_store import FileStore
from fleet.secrets.master_key import KeyFile
from fleet.settings import Settings, parse_config
from fleet.settings.data_folder import make_private
from fleet.settings.environment import Environment


def rights(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that exists with wider rights."""
    found = tmp_path / ".fleet"
    found.mkdir()
    found.chmod(0o755)
    return found


def of_up(folder: Path) -> None:
    make_data_dir(Settings(Environment(data_dir=folder), parse_config("", "test"), "test"))


def of_secrets(folder: Path) -> None:
    key = KeyFile(folder.parent / "master.key", folder)
    FileStore(folder, key).write("providers/openai", {"api_key": "one"}, 0)


def of_the_ledger(folder: Path) -> None:
    facts = {name: 0 if name in NUMBERS else "1796040000000-0" for name in LedgerEntry._fields}
    LedgerFiles(folder).write([LedgerEntry(**facts)])


MAKERS: dict[str, Callable[[Path], object]] = {
    "up": of_up,
    "alive": lambda folder: show_alive(folder, "worker"),
    "finishing": finishing.begin,
    "prices": lambda folder: store_text(folder, b"{}"),
    "secrets": of_secrets,
    "ledger": of_the_ledger,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_with_wider_rights_is_narrowed(folder: Path, name: str) -> None:
    MAKERS[name](folder)
    assert rights(folder) == 0o700


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_that_is_not_there_is_made_for_its_owner(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path / "new" / ".fleet")
    assert rights(tmp_path / "new" / ".fleet") == 0o700


def test_narrower_rights_stay(folder: Path) -> None:
    folder.chmod(0o500)
    make_private(folder)
    assert rights(folder) == 0o500


def test_a_folder_of_somebody_else_is_refused_and_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(InvalidConfig, match="chmod 700"):
        make_private(folder)
    assert rights(folder) == 0o755


def test_a_folder_for_everybody_is_refused_and_stays(folder: Path) -> None:
    folder.chmod(0o1777)
    with pytest.raises(InvalidConfig, match="set FLEET_DATA_DIR to a folder of its own"):
        make_private(folder)
    assert rights(folder) == 0o1777
