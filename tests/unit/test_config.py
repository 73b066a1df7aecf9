"""The config: what is taken, what is refused and how the refusal reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from homeserver.config import Config, Listener, local_config
from homeserver.config_file import ConfigError, decode_config, example_config, load_config
from homeserver.json_types import JsonObject

ROOT = Path(__file__).parents[2]


def refusal(values: JsonObject) -> str:
    with pytest.raises(ConfigError) as caught:
        decode_config(values, Path("/etc/hs"), {})
    return str(caught.value)


def test_unset_sections_take_their_defaults() -> None:
    config = decode_config({"server_name": "example.org"}, Path("/etc/hs"), {})
    assert config == Config(server_name="example.org", data_dir=Path("/etc/hs/data"))


def test_relative_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "server_name: a.example\n"
        "data_dir: ./here\n"
        "application_services: [bridge.yaml, /etc/other.yaml]\n"
        "listeners: [{port: 1, tls: {certificate: c.pem, private_key: k.pem}}]\n"
    )
    config = load_config(file, {})
    assert config.data_dir == tmp_path / "here"
    assert config.application_services == (tmp_path / "bridge.yaml", Path("/etc/other.yaml"))
    tls = config.listeners[0].tls
    assert tls is not None
    assert tls.private_key == tmp_path / "k.pem"


def test_the_config_may_be_json(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"server_name": "a.example", "listeners": [{"port": 99}]}')
    assert load_config(file, {}).listeners == (Listener(port=99),)


def test_values_come_from_the_environment_too() -> None:
    environment = {
        "HOMESERVER_SERVER_NAME": "b.example",
        "HOMESERVER_REGISTRATION__ENABLED": "true",
        "HOMESERVER_REGISTRATION__SHARED_SECRET": "12345",
        "HOMESERVER_DEFAULT_ROOM_VERSION": "11",
        "HOMESERVER_BENCH": "somebody else's",
    }
    config = decode_config({"server_name": "a.example"}, Path("/"), environment)
    assert config.server_name == "b.example"
    assert config.registration.enabled
    assert config.registration.shared_secret == "12345"
    assert config.default_room_version == "11"


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"HOMESERVER_REGISTRATION__OPEN: .*registration\.open"):
        decode_config({"server_name": "a"}, Path("/"), {"HOMESERVER_REGISTRATION__OPEN": "1"})


def test_a_variable_fills_an_empty_section_but_no_list() -> None:
    values: JsonObject = {"server_name": "a", "registration": None}
    config = decode_config(values, Path("/"), {"HOMESERVER_REGISTRATION__ENABLED": "true"})
    assert config.registration.enabled
    values = {"server_name": "a", "listeners": [{"port": 1}]}
    with pytest.raises(ConfigError, match="HOMESERVER_LISTENERS__PORT: `listeners` is no section"):
        decode_config(values, Path("/"), {"HOMESERVER_LISTENERS__PORT": "1"})


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({}, ["server_name"]),
        ({"server_name": 5}, ["`server_name`", "found 5", "quotes"]),
        ({"server_name": "a b"}, ["server_name", "host name", "'a b'"]),
        ({"server_name": "a", "listners": 1}, ["`listners`", "mean `listeners`", "data_dir"]),
        ({"server_name": "a", "listeners": [{"prt": 1}]}, ["`listeners[0].prt`", "address, port"]),
        ({"server_name": "a", "listeners": [{"port": "x"}]}, ["`listeners[0].port`", 'found "x"']),
        ({"server_name": "a", "listeners": [{"port": 70000}]}, ["<= 65535", "found 70000"]),
        ({"server_name": "a", "listeners": [{"resources": []}]}, ["listeners[0]", "federation"]),
        ({"server_name": "a", "logging": {"level": "loud"}}, ["`logging.level`", "debug, info"]),
        ({"server_name": "a", "database": "mysql://x"}, ["`database`", "postgresql://"]),
        ({"server_name": "a", "registration": None}, ["`registration`", "found null"]),
        ({"server_name": "a", "outgoing": {"allowed_private_ranges": ["x"]}}, ["outgoing", "'x'"]),
        ({"server_name": "a", "password": {"bcrypt_rounds": 2}}, ["bcrypt_rounds", ">= 4"]),
    ],
)
def test_a_refusal_names_the_key_and_what_is_allowed(values: JsonObject, texts: list[str]) -> None:
    text = refusal(values)
    for part in texts:
        assert part in text


def test_a_broken_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for text in ("server_name: [", "- a list", ""):
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(file))):
            load_config(file, {})
    file.write_bytes(b"server_name: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(file, {})
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "missing.yaml", {})


def test_the_example_is_a_config_of_defaults() -> None:
    text = example_config()
    uncommented = re.sub(r"^# (?=[a-z_]+:|  [-a-z#])", "", text, flags=re.MULTILINE)
    config = decode_config(yaml.safe_load(uncommented), Path("/etc/hs"), {})
    assert config == Config(server_name="example.org", data_dir=Path("/etc/hs/data"))


def test_every_option_is_explained_in_the_example() -> None:
    explained = example_config()
    for name in Config.__struct_fields__:
        assert re.search(rf"^# \S.*\n(# )?{name}:", explained, re.MULTILINE), name


def test_the_example_in_the_repository_is_the_generated_one() -> None:
    assert (ROOT / "config.example.yaml").read_text() == example_config()


def test_local_mode_is_open_but_only_for_this_machine(tmp_path: Path) -> None:
    config = local_config(tmp_path)
    assert {listener.address for listener in config.listeners} == {"127.0.0.1"}
    assert config.registration.enabled
    assert not config.registration.requires_token
