"""What `fleet up` plans, writes down and hands to its processes."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.cli.configuration import to_toml
from fleet.cli.work import read_payload
from fleet.errors import InvalidConfig, InvalidRequest, RetryLater
from fleet.local import run_file, stack
from fleet.local.ports import pick_ports
from fleet.local.valkey import prepare_valkey
from fleet.models.keys import ProviderKeys
from fleet.settings import Settings, load_settings, parse_config
from fleet.settings.addresses import masked

ALL = stack.Needs(broker=True, model=True)
PORTS = {
    "FLEET_BROKER_PORT": 7001,
    "FLEET_MODEL_PORT": 7002,
    "FLEET_FLOWER_PORT": 7003,
    "FLEET_OPS_PORT": 7004,
}


@pytest.fixture
def settings(clean_environment: pytest.MonkeyPatch) -> Settings:
    return load_settings()


def plan(
    toml: str = "", procfile: dict[str, str] | None = None, needed: stack.Needs = ALL
) -> stack.ProcessPlan:
    return stack.plan(procfile or {}, parse_config(toml, "test"), needed)


def test_without_a_procfile_every_service_and_pool_is_started() -> None:
    assert list(plan().commands) == [
        "broker", "model", "codegen.1", "scanner.1", "perf.1", "beat", "flower",
        "ops",
    ]  # fmt: skip


def test_a_pool_starts_with_its_least_number_of_agents() -> None:
    toml = '[pools.codegen]\nagent_type = "code_generator"\nmin = 2\n'
    commands = plan(toml).commands
    assert [name for name in commands if name.startswith("codegen")] == ["codegen.1", "codegen.2"]


def test_a_pool_that_may_be_empty_is_not_started_and_that_is_said() -> None:
    found = plan('[pools.codegen]\nagent_type = "code_generator"\nmin = 0\n')
    assert not any(name.startswith("codegen") for name in found.commands)
    (note,) = [each for each in found.notes if each.startswith("codegen: not started")]
    assert note.endswith("its pool has min = 0; the first task starts a worker")


def test_the_procfile_says_how_a_process_is_started() -> None:
    found = plan(procfile={"codegen": "nice -n 5 fleet service worker codegen"})
    assert found.commands["codegen.1"] == "nice -n 5 fleet service worker codegen"


def test_a_line_of_the_procfile_that_names_nothing_known_is_skipped_with_a_note() -> None:
    found = plan(procfile={"web": "gunicorn shop"})
    assert "web" not in found.commands
    assert any(note.startswith("web: not started") for note in found.notes)


def test_a_pool_with_the_name_of_a_service_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"pools\.beat"):
        plan('[pools.beat]\nagent_type = "code_generator"\n')


def test_fleet_commands_run_with_this_very_interpreter_and_no_shell_in_between() -> None:
    assert stack.runnable("fleet service beat") == f"exec {sys.executable} -m fleet service beat"


def needs(environment: dict[str, str]) -> stack.Needs:
    settings = load_settings()
    return stack.needs(settings, ProviderKeys(settings.config.providers, environment))


def test_a_broker_address_or_a_providers_key_spares_the_process(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    assert needs({}) == stack.Needs(broker=True, model=True)
    assert not needs({"OPENAI_API_KEY": "sk-x"}).model
    clean_environment.setenv("FLEET_BROKER_URL", "redis://elsewhere:6379/0")
    clean_environment.setenv("FLEET_MODEL_URL", "http://elsewhere/v1")
    assert needs({}) == stack.Needs(broker=False, model=False)


def test_addresses_carry_the_brokers_password_in_its_url_alone(settings: Settings) -> None:
    found = stack.addresses(settings, ALL, PORTS, "p/w@d", "key")
    assert found.broker_url == "redis://:p%2Fw%40d@127.0.0.1:7001/0"
    assert found.model_url == "http://127.0.0.1:7002/v1"
    assert found.flower_url == "http://127.0.0.1:7003"
    assert found.ops_url == "http://127.0.0.1:7004"


def test_a_workers_command_names_its_pool_and_holds_no_secret(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("FLEET_BROKER_URL", "redis://:hush@127.0.0.1:6379/0")
    clean_environment.setenv("FLEET_FLOWER_PASSWORD", "hush")
    command = stack.worker_arguments(load_settings(), "scanner", 4711)
    assert command[command.index("--pool") + 1] == "prefork"
    assert command[command.index("--concurrency") + 1] == "2"
    assert command[command.index("--hostname") + 1] == "scanner-4711@%h"
    assert not any("hush" in part for part in command)


def test_a_worker_for_an_unknown_pool_is_refused_with_the_known_ones(settings: Settings) -> None:
    with pytest.raises(InvalidConfig, match="codegen, perf, scanner"):
        stack.worker_arguments(settings, "scaner", 1)


def test_children_are_told_where_everything_is(settings: Settings) -> None:
    found = stack.addresses(settings, ALL, PORTS, "secret", "key")
    told = stack.child_environment(settings, found, PORTS, "flower secret")
    assert told["FLEET_BROKER_URL"] == found.broker_url
    assert told["FLEET_MODEL_PORT"] == "7002"
    assert told["FLEET_MODEL_KEY"] == "key"
    assert "secret" not in repr(found)
    assert told["FLEET_DATA_DIR"] == str(Path(".fleet").resolve())
    assert told["FLEET_FLOWER_PASSWORD"] == "flower secret"


@pytest.fixture
def run() -> run_file.RunFile:
    return run_file.RunFile(
        pid=os.getpid(),
        started=run_file.own_start(),
        broker_url="redis://:secret@127.0.0.1:7001/0",
        model_url=None,
        flower_url="http://127.0.0.1:7003",
        flower_user="fleet",
        ports=PORTS,
        processes=("broker", "codegen.1"),
    )


def test_a_run_file_is_read_back_and_for_its_owner_alone(
    tmp_path: Path, run: run_file.RunFile
) -> None:
    run_file.write_run_file(tmp_path, run)
    assert run_file.running(tmp_path) == run
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_second_run_in_a_data_folder_is_refused(tmp_path: Path, run: run_file.RunFile) -> None:
    run_file.write_run_file(tmp_path, run)
    with pytest.raises(RetryLater, match="fleet down"):
        run_file.write_run_file(tmp_path, replace(run, pid=1))
    assert run_file.running(tmp_path) == run


def test_a_run_whose_process_id_went_to_another_process_is_over(
    tmp_path: Path, run: run_file.RunFile
) -> None:
    run_file.write_run_file(tmp_path, replace(run, started=run.started - 60))
    assert run_file.running(tmp_path) is None


def test_a_damaged_run_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"broker_url": "redis://x", "extra": 1}')
    with pytest.raises(InvalidConfig, match="delete it"):
        run_file.running(tmp_path)


def test_a_port_in_use_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RetryLater, match=f"FLEET_FLOWER_PORT: port {port} "):
            pick_ports({"FLEET_BROKER_PORT": 0, "FLEET_FLOWER_PORT": port})


def test_a_port_may_be_of_all_interfaces() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        assert pick_ports({"FLEET_FLOWER_PORT": port}) == {"FLEET_FLOWER_PORT": port}
        with pytest.raises(RetryLater, match="FLEET_FLOWER_PORT"):
            pick_ports({"FLEET_FLOWER_PORT": port}, "0.0.0.0")


def test_ports_are_never_given_twice() -> None:
    chosen = pick_ports({str(number): 0 for number in range(50)})
    assert len(set(chosen.values())) == 50


def test_valkeys_password_is_in_a_file_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    command = prepare_valkey(tmp_path / "valkey", 7001, 'a"\n b')
    config = tmp_path / "valkey" / "valkey.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert 'requirepass "\\x61\\x22\\x0a\\x20\\x62"' in config.read_text().splitlines()
    assert command[1:] == ["valkey.conf"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:1/0", "redis://**********@host:1/0"),
        ("http://host/v1", "http://host/v1"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_the_shown_configuration_is_a_fleet_toml_again() -> None:
    config = parse_config('strategy = "round_robin"\ntenants = ["acme"]', "test")
    again = parse_config(to_toml(config.model_dump(mode="json")), "again")
    assert again == config


def test_single_keys_replace_those_of_the_payload() -> None:
    payload = read_payload('{"a": 1, "b": 2}', None, ["b=[3]", "c=plain text", 'd="5"'])
    assert payload == {"a": 1, "b": [3], "c": "plain text", "d": "5"}


def test_a_payload_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text(json.dumps({"a": 1}))
    assert read_payload(None, f"@{tmp_path / 'payload.json'}", []) == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("{", None, []), "not JSON"),
        (("[1]", None, []), "JSON object"),
        (("{}", "{}", []), "twice"),
        (("@/nowhere.json", None, []), "No such file"),
        ((None, None, ["novalue"]), "KEY=VALUE"),
    ],
)
def test_a_payload_that_cannot_be_understood_is_refused(
    arguments: tuple[str | None, str | None, list[str]], fault: str
) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        read_payload(*arguments)
