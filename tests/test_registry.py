"""Channel types: what is valid, what is secret, what is loaded when."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import pytest

from junebug.config.declaration import Settings
from junebug.errors import ConfigError, InvalidChannelConfig, InvalidChannelType
from junebug.model.spec import ChannelSpec
from junebug.registry import REDACTED, ChannelType, Registry
from junebug.transports.base import Transport

SCHEMA = {
    "type": "object",
    "properties": {
        "host": {"type": "string"},
        "password": {"type": "string", "maxLength": 8},
        "web": {"type": "object", "properties": {"token": {"type": "string"}}},
    },
    "required": ["host"],
}
SECRETIVE = ChannelType("secretive", "nowhere:Nothing", SCHEMA, ("password", "web.token"))


class OwnTransport(Transport):
    config_schema: ClassVar[dict[str, Any]] = {"type": "object", "required": ["own"]}
    secrets = ("key",)


def test_the_bundled_types_are_installed() -> None:
    assert {"telnet", "telnet_addr", "loopback"} <= set(Registry.from_settings({}).names())


def test_an_unknown_type_is_told_with_the_valid_ones() -> None:
    with pytest.raises(InvalidChannelType, match="secretive"):
        Registry([SECRETIVE]).get("smoke")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "config"),
        ({"host": 5}, "config.host"),
        ({"host": "h", "web": {"token": 5}}, "config.web.token"),
        ({"host": "h", "password": REDACTED}, "config.password"),
        ({"host": "h", "web": {"token": REDACTED}}, "config.web.token"),
    ],
)
def test_a_wrong_config_is_told_by_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidChannelConfig) as error:
        Registry([SECRETIVE]).validate_config("secretive", config)
    assert [entry["field"] for entry in error.value.errors()] == [field]


@pytest.mark.parametrize(
    ("type", "shards", "is_taken"),
    [
        ("smpp", 1, True), ("smpp", 32, True), ("smpp", 33, False), ("smpp", 0, False), ("smpp", "2", False),
        ("smpp", 1.5, False), ("loopback", 2, True), ("loopback", None, True), ("telnet", 2, False), ("telnet", 1, False),
        ("telnet", None, True),
    ],
)  # fmt: skip
def test_what_can_be_divided_may_have_shards(type: str, shards: Any, is_taken: bool) -> None:
    configs = {
        "smpp": {"host": "h", "port": 1, "system_id": "me", "password": ""}, "loopback": {},
        "telnet": {"twisted_endpoint": "tcp:9001"},
    }  # fmt: skip
    registry, config = Registry.from_settings({}), {**configs[type], "shards": shards}
    if is_taken:
        return registry.validate_config(type, config)
    with pytest.raises(InvalidChannelConfig) as error:
        registry.validate_config(type, config)
    assert [entry["field"] for entry in error.value.errors()] == ["config.shards"]


@pytest.mark.parametrize(
    ("stored", "shards"), [(None, 1), (4, 4), (4.0, 4), (32, 32), (0, 1), (33, 1), (-1, 1), ("4", 1), (True, 1), ([], 1)]
)
def test_how_many_shards_a_stored_config_means(stored: Any, shards: int) -> None:
    assert ChannelSpec(id="c", type="smpp", config={"shards": stored}).shards == shards


def test_an_error_never_quotes_a_secret() -> None:
    config = {"host": "h", "password": "much too long", "web": {"token": ["sesame"]}}
    with pytest.raises(InvalidChannelConfig) as error:
        Registry([SECRETIVE]).validate_config("secretive", config)
    assert "much too long" not in str(error.value.errors())
    assert "sesame" not in str(error.value.errors())


def test_an_error_about_the_whole_config_never_quotes_a_secret() -> None:
    with pytest.raises(InvalidChannelConfig) as error:
        Registry([SECRETIVE]).validate_config("secretive", {"password": "open-me", "web": {"token": "sesame"}})
    assert "open-me" not in str(error.value)
    assert "sesame" not in str(error.value)


def test_secrets_are_masked_and_come_back_unharmed() -> None:
    registry = Registry([SECRETIVE])
    config = {"host": "h", "password": "open", "web": {"token": "sesame", "port": 1}}
    masked = registry.redact("secretive", config)
    assert masked == {"host": "h", "password": REDACTED, "web": {"token": REDACTED, "port": 1}}
    assert registry.restore_redacted("secretive", masked | {"host": "new"}, config) == config | {"host": "new"}
    assert registry.restore_redacted("secretive", masked | {"password": "new"}, config)["password"] == "new"
    spec = ChannelSpec(id="c", type="secretive", config=config)
    assert set(registry.secret_values(spec, Settings(callback_secret="third"))) >= {"open", "sesame", "third"}


def test_what_an_older_junebug_stored_beside_is_left_out() -> None:
    strict = ChannelType("strict", "nowhere:Nothing", {**SCHEMA, "additionalProperties": False})
    registry = Registry([SECRETIVE, strict])
    stored = {"host": "h", "worker_name": "x"}
    assert registry.without_unknown("strict", stored) == {"host": "h"}
    assert registry.without_unknown("secretive", stored) == stored


def test_all_of_an_unknown_types_config_is_secret() -> None:
    assert Registry([]).redact("gone", {"a": 1}) == {"a": REDACTED}


def test_a_class_of_the_setting_channels_brings_its_schema_and_secrets() -> None:
    registry = Registry.from_settings({"own": f"{__name__}.OwnTransport"}, replace_channels=True)
    assert registry.names() == ["own"]
    assert registry.get("own").secrets == ("key",)
    assert registry.load_transport("own").__name__ == "OwnTransport"
    with pytest.raises(InvalidChannelConfig):
        registry.validate_config("own", {})


@pytest.mark.parametrize("path", ["no.such.Class", "junebug.names.NoSuch", "nodots", "junebug.names.EXCHANGE"])
def test_a_class_that_cannot_be_loaded_is_told_by_its_entry(path: str) -> None:
    with pytest.raises(ConfigError, match="channels.mine"):
        Registry.from_settings({"mine": path})


def test_the_api_never_imports_a_transport() -> None:
    import subprocess

    program = "import sys; from junebug.registry import Registry; Registry.from_settings({}); print('|'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split("|")
    assert "junebug.transports.telnet" in loaded
    assert not [name for name in loaded if name.endswith(".transport") or "aio_pika" in name]


def test_an_error_about_what_should_hold_a_secret_does_not_quote_it() -> None:
    with pytest.raises(InvalidChannelConfig) as error:
        Registry([SECRETIVE]).validate_config("secretive", {"host": "h", "web": "sesame"})
    assert "sesame" not in str(error.value)
    assert error.value.errors()[0]["field"] == "config.web"
