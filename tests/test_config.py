"""Settings: what each reader of the one declaration gets, and how a wrong one is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from junebug.config.declaration import OPTIONS, RedisSettings, Settings
from junebug.config.load import load
from junebug.errors import ConfigError
from junebug.runtime.tls import TlsOptions
from tests.tables import rows


def test_command_line_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "junebug.yaml"
    file.write_text("port: 1\nredis: {port: 2, db: 3}\nmetric_window: 4\n")
    settings = load({"port": "11"}, {"JUNEBUG_PORT": "12", "JUNEBUG_REDIS_PORT": "13"}, str(file))
    assert (settings.port, settings.redis.port, settings.redis.db, settings.metric_window) == (11, 13, 3, 4.0)
    assert settings.amqp.port == 5672


def test_every_default_of_the_spec_holds() -> None:
    settings = load()
    assert settings == Settings()
    assert (settings.interface, settings.port, settings.logfile) == ("localhost", 8080, None)
    assert (settings.redis.host, settings.redis.port, settings.redis.db, settings.redis.password) == (
        "localhost", 6379, 0, None)  # fmt: skip
    amqp = settings.amqp
    assert (amqp.hostname, amqp.vhost, amqp.port, amqp.username, amqp.password) == (
        "127.0.0.1", "/", 5672, "guest", "guest")  # fmt: skip
    assert (settings.inbound_message_ttl, settings.outbound_message_ttl) == (600, 172800)
    assert (settings.channels, settings.replace_channels, settings.plugins) == ({}, False, [])
    assert (settings.metric_window, settings.logging_path, settings.log_rotate_size) == (10.0, "logs/", 1_000_000)
    assert (settings.max_log_files, settings.max_logs) == (5, 100)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot: 1", "prot: unknown setting"),
        ("redis: {hots: x}", "redis.hots: unknown setting"),
        ("redis: x", "redis: expected settings"),
        ("port: '80'", "port: expected a whole number"),
        ("port: true", "port: expected a whole number"),
        ("port: 99999", "port: expected a whole number, 0 to 65535"),
        ("interface: 5", "interface: expected a text"),
        ("replace_channels: 1", "replace_channels: expected true or false"),
        ("metric_window: .nan", "metric_window: expected a number"),
        ("metric_window: 0", "metric_window: expected a number, 0.1 or more"),
        ("channels: [a]", "channels: expected channel types"),
        ("plugins: [{}]", "plugins: expected a list of objects, each with a `type`"),
        ("amqp: {hosts: rabbit}", "amqp.hosts: expected a list of servers"),
        ("amqp: {hosts: ['a:b']}", "amqp.hosts: expected a list of servers"),
        ("amqp: {hosts: ['a:99999']}", "amqp.hosts: expected a list of servers"),
        ("amqp: {hosts: ['::1']}", "amqp.hosts: expected a list of servers"),
        ("amqp: {queue_type: stream}", "amqp.queue_type: expected classic or quorum, got 'stream'"),
        ("amqp: {hosts: [a], hostname: b}", "amqp.hosts, amqp.hostname: "),
        ("amqp: {tls: {cafile: x}}", "amqp.tls: expected true, false or an object of server_name, ca_file"),
        ("amqp: {tls: {verify: 1}}", "amqp.tls: expected true, false or an object"),
        ("redis: {sentinels: [a], host: b}", "redis.sentinels, redis.host: "),
        ("redis: {sentinels: [a], url: 'redis://b'}", "redis.sentinels, redis.url: "),
        ("redis: {sentinels: [a]}", "redis.master_name: "),
        ("redis: {master_name: a}", "redis.master_name: it goes with redis.sentinels"),
        ("redis: {sentinel_password: a}", "redis.sentinel_password: it goes with redis.sentinels"),
        ("redis: {url: 'redis://b', port: 1}", "redis.url, redis.port: "),
        ("redis: {url: 'redis://b/1', db: 1}", "redis.url, redis.db: "),
        ("redis: {url: 'redis://:a@b', password: c}", "redis.url, redis.password: "),
        ("redis: {url: 'redis://a:a@b', username: c}", "redis.url, redis.username: "),
        ("redis: {url: 'redis://b', tls: true}", "redis.url, redis.tls: "),
        ("- 1", "expected settings as `name: value`"),
        ("a: [", "no valid YAML"),
    ],
)
def test_a_wrong_file_is_told_by_name(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "junebug.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(config_path=str(file))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "environ", "named"),
    [
        ({"port": "x"}, {}, "--port: "),
        ({}, {"JUNEBUG_PORT": "x"}, "JUNEBUG_PORT: "),
        ({"channels": ["nocolon"]}, {}, "--channels: expected type:python.Class"),
        ({"plugins": ["{"]}, {}, "--plugin: expected a JSON object"),
        ({"amqp.tls": "perhaps"}, {}, "--amqp-tls: expected true, false or an object"),
        ({"amqp.hosts": "a b"}, {}, "--amqp-hosts: expected a list of servers"),
        ({"replace_channels": "perhaps"}, {}, "--replace-channels: expected true or false"),
    ],
)
def test_a_wrong_flag_or_variable_is_told_where_it_was_given(given: Any, environ: Any, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(given, environ)
    assert str(error.value).startswith(named)


def test_a_malformed_callback_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="^callback_secret: expected whsec_") as error:
        load({"callback_secret": "sesame"})
    assert "sesame" not in str(error.value)
    good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert load({}, {"JUNEBUG_CALLBACK_SECRET": good}).callback_secret == good


def test_a_secret_is_neither_in_an_error_nor_in_a_repr(tmp_path: Path) -> None:
    file = tmp_path / "junebug.yaml"
    file.write_text("redis: {password: 12345678}")
    with pytest.raises(ConfigError) as error:
        load(config_path=str(file))
    assert "redis.password: expected a text" in str(error.value)
    assert "12345678" not in str(error.value)
    assert "sesame" not in repr(load({"redis.password": "sesame", "amqp.password": "sesame"}))


@rows(
    ["url", "said"],
    [
        ("redis://a", {"host": "a"}),
        ("redis://", {}),
        ("redis://a:1/2", {"host": "a", "port": 1, "db": 2}),
        ("redis://a/?db=2", {"host": "a", "db": 2}),
        ("redis://u:p%2F%40@a", {"host": "a", "username": "u", "password": "p/@"}),
        ("redis://:p@[::1]:7", {"host": "::1", "port": 7, "password": "p"}),
        ("rediss://a", {"host": "a", "tls": TlsOptions()}),
        ("unix:///run/redis.sock", {"host": "/run/redis.sock"}),
        ("unix://u:p@/run/redis.sock?db=3", {"host": "/run/redis.sock", "username": "u", "password": "p", "db": 3}),
    ],
)
def test_what_a_url_of_redis_says(url: str, said: dict[str, Any]) -> None:
    settings = load({}, {"JUNEBUG_REDIS_URL": url})
    assert dataclasses.replace(settings.redis, url=None) == RedisSettings(**said)
    password = said.get("password")
    assert password in (None, *settings.server_passwords)
    assert f":{url.partition('@')[0].rpartition(':')[2]}@" not in repr(settings.redis) + str(settings.redis.url)


def test_what_a_url_does_not_say_is_said_beside_it() -> None:
    given = {"redis.url": "rediss://a", "redis.password": "p", "redis.db": "4", "redis.tls": '{"ca_file": "ca.pem"}'}
    redis = load(given).redis
    assert (redis.host, redis.password, redis.db, redis.tls) == ("a", "p", 4, TlsOptions(ca_file="ca.pem"))


@pytest.mark.parametrize(
    "url",
    ["http://x:sesame@a", "sesame", "redis://x:sesame@a:b", "redis://x:sesame@a/b", "redis://x:sesame@a/1?db=1",
     "redis://x:sesame@a?ssl=1", "redis://x:sesame@a#1", "unix://x:sesame@a/b", "unix://x:sesame@", "redis://[sesame"],
)  # fmt: skip
def test_a_url_that_is_none_is_told_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^redis\.url: (expected|it is no URL)") as error:
        load({"redis.url": url})
    assert "sesame" not in str(error.value)


def test_sentinels() -> None:
    redis = load({"redis.sentinels": "a,[::1]:5", "redis.master_name": "m"}).redis
    assert redis.sentinel_addresses == [("a", 26379), ("::1", 5)]
    assert redis.where == "m (sentinels a:26379, [::1]:5)"


def test_hosts_of_rabbitmq() -> None:
    given = {"amqp.hosts": "a, b:1,[::1]:2, [fe80::1]", "amqp.port": "9", "amqp.tls": "true"}
    amqp = load(given).amqp
    assert amqp.addresses == [("a", 9), ("b", 1), ("::1", 2), ("fe80::1", 9)]
    assert [str(each) for each in amqp.addresses] == ["a:9", "b:1", "[::1]:2", "[fe80::1]:9"]
    assert [each.addresses for each in amqp.apart()] == [[each] for each in amqp.addresses]
    assert amqp.tls == TlsOptions()
    assert load({"amqp.hostname": "a"}).amqp.addresses == [("a", 5672)]


def test_tls_is_said_as_channels_say_it(tmp_path: Path) -> None:
    file = tmp_path / "junebug.yaml"
    file.write_text("amqp: {tls: {ca_file: ca.pem, verify: true, key_passphrase: sesame}}")
    settings = load(config_path=str(file))
    assert settings.amqp.tls == TlsOptions(ca_file="ca.pem", key_passphrase="sesame")
    assert "sesame" in settings.server_passwords
    assert "sesame" not in repr(settings)
    assert load({"amqp.tls": '{"verify": false}'}).amqp.tls == TlsOptions(verify=False)
    assert load({"amqp.tls": "no"}).amqp.tls is None


def test_channels_and_plugins_may_be_repeated() -> None:
    settings = load({"channels": ["a:x.Y", "b:z.W"], "plugins": ['{"type": "p.Q", "n": 1}']})
    assert settings.channels == {"a": "x.Y", "b": "z.W"}
    assert settings.plugins == [{"type": "p.Q", "n": 1}]
    assert load(environ={"JUNEBUG_CHANNELS": "a:x.Y, b:z.W"}).channels == settings.channels
    assert load({"channels": ()}, {"JUNEBUG_CHANNELS": "a:x.Y"}).channels == {"a": "x.Y"}


def test_none_means_no_log_file(tmp_path: Path) -> None:
    file = tmp_path / "junebug.yaml"
    file.write_text("logfile: 'None'\nredis: {password: null}\nchannels: null\n")
    settings = load(config_path=str(file))
    assert (settings.logfile, settings.redis.password, settings.channels) == (None, None, {})


def test_a_path_too_long_for_a_socket_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="data_dir"):
        load({"data_dir": "/tmp/" + "x" * 120})


def test_flags_and_variables_are_unique() -> None:
    flags = [name for option in OPTIONS for name in (option.flag, option.short) if name]
    assert len(flags) == len(set(flags))
    variables = [option.variable for option in OPTIONS if option.variable]
    assert len(variables) == len(set(variables))
