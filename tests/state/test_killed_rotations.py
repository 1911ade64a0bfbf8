"""A rotation that is killed at any step is resumed, and no key is lost or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fake_key_service import FakeKeyService
from killed_rotations import POINTS, Rotated, check_killed_rotation

from fleet.secrets.file_store import FileStore
from fleet.secrets.master_key import KeyFile


@pytest.fixture(scope="module")
def service() -> Iterator[FakeKeyService]:
    with FakeKeyService() as found:
        yield found


@pytest.fixture
def rotated(
    client: redis.Redis, valkey_url: str, service: FakeKeyService, tmp_path: Path
) -> Rotated:
    service.keys.clear()
    data_dir, key = tmp_path / "data", tmp_path / "keys" / "master.key"
    return Rotated(service, valkey_url, lambda: FileStore(data_dir, KeyFile(key, data_dir)))


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_rotation_is_resumed(rotated: Rotated, point: str) -> None:
    check_killed_rotation(rotated, point)
