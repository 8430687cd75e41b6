"""Settings: one declaration of every setting, from which command line, environment, YAML file and docs are made.

Neighbours: load.py merges what was given; cli.py makes the flags from OPTIONS, docs/generate.py the settings page and
etc/junebug.yaml.example.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from junebug import names
from junebug.config.addresses import Address, parse_address
from junebug.runtime.tls import TlsOptions

ENVIRONMENT_PREFIX = "JUNEBUG_"
DENIED_NETWORKS = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32")
"""Link-local, and the metadata services of AWS, Alibaba and whoever does as they do."""
SENTINEL_PORT = 26379
LONGEST_SOCKET_PATH = 100
"""Bytes: a unix socket's path is limited to 107 by the kernel, and supervisord appends its pid while binding."""


_TLS_HELP = (
    "true, or an object of `server_name`, `ca_file`, `certificate_file`, `key_file`, `key_passphrase` and `verify`, as channels "
    "have it (command line: `true` or JSON)."
)


def _setting(default: Any, flag: str, short: str = "", *, help: str, minimum: float | None = None,
             maximum: float | None = None, secret: bool = False, kind: str = "") -> Any:  # fmt: skip
    """One setting: its default, flags and help (units included) side by side."""
    about = {"flag": flag, "short": short, "help": help, "minimum": minimum, "maximum": maximum, "secret": secret,
             "kind": kind}  # fmt: skip
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), repr=False, metadata=about)
    return field(default=default, repr=not secret, metadata=about)


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """Where Redis is. Of a URL that was given load.py makes the other settings; `url` then shows it, without the password."""

    url: str | None = _setting(None, "--redis-url", secret=True,
        help="Where Redis is, in one: `redis://user:password@host:port/db`, `rediss://...` (TLS) or `unix:///path?db=0`; in "
             "place of the settings that it says.")  # fmt: skip
    host: str = _setting("localhost", "--redis-host", "-redish",
        help="The hostname of the Redis server, or the path of its unix socket.")  # fmt: skip
    port: int = _setting(6379, "--redis-port", "-redisp", help="The port of the Redis server.", minimum=1,
                         maximum=65535)  # fmt: skip
    db: int = _setting(0, "--redis-db", "-redisdb", help="The number of the Redis database.", minimum=0)
    username: str | None = _setting(None, "--redis-user", help="The username for Redis (ACL); none: its user `default`.")
    password: str | None = _setting(None, "--redis-password", "-redispass", help="The password for Redis.", secret=True)
    tls: TlsOptions | None = _setting(None, "--redis-tls", kind="tls", secret=True,
        help="TLS to Redis, and to its sentinels: " + _TLS_HELP)  # fmt: skip
    sentinels: list[str] = _setting([], "--redis-sentinels", kind="servers",
        help="Sentinels to ask for the master, each `host`, `host:port` or `[IPv6]:port`, in place of `host` and `port` (command "
             "line: with commas between); their usual port is 26379.")  # fmt: skip
    master_name: str | None = _setting(None, "--redis-master-name", help="The name by which the sentinels know the master.")
    sentinel_password: str | None = _setting(None, "--redis-sentinel-password", help="The password for the sentinels.",
                                             secret=True)  # fmt: skip

    @property
    def address(self) -> Address:
        """Where there are no sentinels."""
        return Address(self.host, self.port)

    @property
    def sentinel_addresses(self) -> list[Address]:
        return [parse_address(each, SENTINEL_PORT) for each in self.sentinels]

    @property
    def where(self) -> str:
        """As messages name it."""
        if not self.sentinels:
            return str(self.address)
        return f"{self.master_name} (sentinels {', '.join(map(str, self.sentinel_addresses))})"

    @property
    def secrets(self) -> list[str]:
        passphrase = self.tls.key_passphrase if self.tls else None
        return list(filter(None, (self.password, self.sentinel_password, passphrase)))


@dataclass(frozen=True, kw_only=True)
class AmqpSettings:
    """Where RabbitMQ is."""

    hostname: str = _setting("127.0.0.1", "--amqp-host", "-amqph", help="The hostname of the RabbitMQ server.")
    hosts: list[str] = _setting([], "--amqp-hosts", kind="servers",
        help="In its place the nodes of a cluster, each `host`, `host:port` or `[IPv6]:port` (command line: with commas "
             "between): tried in random order, each name looked up at each attempt.")  # fmt: skip
    vhost: str = _setting("/", "--amqp-vhost", "-amqpvh", help="The AMQP virtual host.")
    port: int = _setting(5672, "--amqp-port", "-amqpp", help="The port of the RabbitMQ server.", minimum=1,
                         maximum=65535)  # fmt: skip
    username: str = _setting("guest", "--amqp-user", "-amqpu", help="The username for RabbitMQ.")
    password: str | None = _setting("guest", "--amqp-password", "-amqppass", help="The password for RabbitMQ.",
                                    secret=True)  # fmt: skip
    tls: TlsOptions | None = _setting(None, "--amqp-tls", kind="tls", secret=True, help="TLS to RabbitMQ: " + _TLS_HELP)
    queue_type: str = _setting("classic", "--amqp-queue-type", kind="queue type",
        help="`classic`, or `quorum` for queues that a cluster of RabbitMQ keeps on several nodes: those of messages to be sent, "
             "and of what is on its way to the application. The same for all of Junebug; what waits in the former queues is sent "
             "first.")  # fmt: skip
    db: int = _setting(0, "", help="Taken for compatibility; RabbitMQ has no databases.", minimum=0)

    @property
    def addresses(self) -> list[Address]:
        return [parse_address(each, self.port) for each in self.hosts] or [Address(self.hostname, self.port)]

    def apart(self) -> Iterator[AmqpSettings]:
        """For each of the hosts, as if there were no other."""
        for each in self.hosts:
            yield dataclasses.replace(self, hosts=[each])
        if not self.hosts:
            yield self


@dataclass(frozen=True, kw_only=True)
class HttpTypesSettings:
    """The listener that channels of HTTP types share."""

    port: int = _setting(0, "--http-types-port", minimum=0, maximum=65535,
        help="The port that channels of HTTP types without a web_port share, told apart by their web_path; 0: none.")  # fmt: skip
    interface: str = _setting("0.0.0.0", "--http-types-interface",
        help="The interface to expose that port on.")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Times are in seconds, sizes in bytes. The order is that of the documentation."""

    interface: str = _setting("localhost", "--interface", "-i", help="The interface to expose the API on.")
    port: int = _setting(8080, "--port", "-p", help="The port to expose the API on.", minimum=0, maximum=65535)
    logfile: str | None = _setting(None, "--log-file", "-l", help="The file to log to, as JSON lines; none: no file.")
    sentry_dsn: str | None = _setting(None, "--sentry-dsn", secret=True,
        help="Where errors with a traceback are told, without texts of messages and addresses: a Sentry project's DSN; needs the "
             "extra `junebug[sentry]`.")  # fmt: skip
    redis: RedisSettings = field(default_factory=RedisSettings)
    amqp: AmqpSettings = field(default_factory=AmqpSettings)
    http_types: HttpTypesSettings = field(default_factory=HttpTypesSettings)
    inbound_message_ttl: int = _setting(600, "--inbound-message-ttl", "-ittl", minimum=1,
        help="The maximum time allowed to reply to a message, in seconds.")  # fmt: skip
    outbound_message_ttl: int = _setting(172800, "--outbound-message-ttl", "-ottl", minimum=1,
        help="The maximum time allowed for events to arrive for a message, in seconds.")  # fmt: skip
    channels: dict[str, str] = _setting({}, "--channels", "-ch", kind="mapping",
        help="Channel types to add: type to Python class (command line: `type:python.Class`, may be repeated).")  # fmt: skip
    replace_channels: bool = _setting(False, "--replace-channels", "-rch",
        help="Whether `channels` replaces the default channel types instead of adding to them.")  # fmt: skip
    routers: dict[str, str] = _setting({}, "--routers", "-ro", kind="mapping",
        help="Router types to add: type to its Python object (command line: `type:python.NAME`, may be repeated).")  # fmt: skip
    replace_routers: bool = _setting(False, "--replace-routers", "-rro",
        help="Whether `routers` replaces the default router types instead of adding to them.")  # fmt: skip
    plugins: list[dict[str, Any]] = _setting([], "--plugin", "-pl", kind="plugins",
        help="Plugins: objects with a `type` (the Python class) and what that plugin needs (command line: one JSON "
             "object, may be repeated).")  # fmt: skip
    metric_window: float = _setting(10.0, "--metric-window", "-mw", minimum=0.1,
        help="The size of each bucket used for rates, in seconds.")  # fmt: skip
    logging_path: str = _setting("logs/", "--logging-path", "-lp", help="The directory for each channel's log files.")
    log_rotate_size: int = _setting(1_000_000, "--log-rotate-size", "-lrs", minimum=1,
        help="The size at which a channel's log file is rotated, in bytes.")  # fmt: skip
    max_log_files: int = _setting(5, "--max-log-files", "-mlf", minimum=0,
        help="Log files to keep of each channel, the present one included; 0 keeps them all.")  # fmt: skip
    deleted_log_ttl: float = _setting(604800.0, "--deleted-log-ttl", minimum=0, maximum=315360000,
        help="How long the log files of a deleted channel are kept, in seconds.")  # fmt: skip
    max_logs: int = _setting(100, "--max-logs", "-ml", minimum=1,
        help="The most log entries that one request to the API gets.")  # fmt: skip

    workers: int = _setting(1, "--workers", minimum=1, maximum=64, help="API processes that share the port.")
    embedded: bool = _setting(False, "--embedded", kind="switch",
        help="Start a private Redis and RabbitMQ on loopback, their data kept in `data_dir`.")  # fmt: skip
    data_dir: str = _setting("var", "--data-dir", help="The directory for sockets, process logs and the "
                             "data of the embedded servers.")  # fmt: skip
    callback_timeout: float = _setting(10.0, "--callback-timeout", minimum=0.1,
        help="The longest that a call of an application's URL may take, in seconds.")  # fmt: skip
    callback_concurrency: int = _setting(50, "--callback-concurrency", minimum=1,
        help="Calls under way to one host, for each channel.")  # fmt: skip
    callback_retry_delays: list[float] = _setting([1.0, 5.0, 30.0, 120.0, 600.0, 3600.0], "--callback-retry-delays",
        kind="delays", minimum=0.1, maximum=86400,
        help="Pauses before a failed call is made again, in seconds; the last one repeats (command line: with "
             "commas between).")  # fmt: skip
    callback_max_age: float = _setting(86400.0, "--callback-max-age", minimum=1.0,
        help="How long an inbound message is tried before it becomes a dead letter, in seconds; events are tried for "
             "outbound_message_ttl.")  # fmt: skip
    callback_secret: str | None = _setting(None, "--callback-secret", secret=True,
        help="The key that signs calls as Standard Webhooks do: `whsec_` and base64; none: they are not signed. A "
             "channel may have its own.")  # fmt: skip
    callback_allow: list[str] = _setting([], "--callback-allow", kind="networks",
        help="Networks that calls may go to whatever `callback_deny` says, as `10.1.0.0/16` (command line: with commas "
             "between).")  # fmt: skip
    callback_deny: list[str] = _setting(list(DENIED_NETWORKS), "--callback-deny", kind="networks",
        help="Networks that no call of an application's URL goes to, checked on the address that its host's name stands for: "
             "by default link-local ones, and those where clouds keep a machine's credentials. Add `127.0.0.0/8`, `::1/128` "
             "or private ones where not everybody who sends is trusted.")  # fmt: skip
    admin_token: str | None = _setting(None, "--admin-token", secret=True,
        help="An API token with every right that needs no Redis: a text of at least 20 characters, or `sha256:` and its "
             "digest in hexadecimal.")  # fmt: skip
    require_auth: bool = _setting(False, "--require-auth", kind="switch",
        help="Ask for an API token on loopback, too.")  # fmt: skip
    no_auth: bool = _setting(False, "--no-auth", kind="switch",
        help="Ask for no API token where others can reach the API: behind a proxy that authenticates.")  # fmt: skip
    allowed_hosts: list[str] = _setting([], "--allowed-hosts", kind="words",
        help="Names by which the API is called, besides those of loopback: what a request's Host may say on loopback, and its "
             "Origin where it changes something; `*`: any (command line: with commas between).")  # fmt: skip
    no_console: bool = _setting(False, "--no-console", kind="switch",
        help="Serve no console at `/console/`: then there is the API alone.")  # fmt: skip
    max_body_size: int = _setting(1_000_000, "--max-body-size", minimum=1000,
        help="The largest request body that the API takes, in bytes; of a bulk send, the largest message.")  # fmt: skip
    max_connections: int = _setting(2000, "--max-connections", minimum=1,
        help="Connections to each API process at the same time; who comes beyond is answered 503.")  # fmt: skip
    request_timeout: float = _setting(5.0, "--request-timeout", minimum=0.1,
        help="The longest that the API waits for Redis or RabbitMQ before it answers 503, in seconds.")  # fmt: skip
    allow_expired_replies: bool = _setting(False, "--allow-expired-replies", kind="switch",
        help="Take `to` and `reply_to` together: an expired reply_to then falls back to `to`.")  # fmt: skip
    worker_timeout: float = _setting(10.0, "--worker-timeout", minimum=2.0,
        help="A channel's process whose event loop is silent for so long is killed and started again, in seconds.")  # fmt: skip
    merge_memory: bool = _setting(False, "--merge-memory", kind="switch",
        help="Let Linux keep once what processes have alike, where it merges memory (KSM).")  # fmt: skip
    reconcile_interval: float = _setting(3.0, "--reconcile-interval", minimum=0.1,
        help="How often wanted and running channels are compared without being told, in seconds.")  # fmt: skip
    stop_timeout: float = _setting(10.0, "--stop-timeout", minimum=1.0,
        help="The longest that a channel's process may take to finish what is in flight, in seconds.")  # fmt: skip

    host: str | None = _setting(None, "--host",
        help="This host's id among those that share Redis and RabbitMQ; none: one that is made once, and kept in "
             "`data_dir`.")  # fmt: skip
    capacity: int = _setting(0, "--capacity", minimum=0,
        help="Channels and routers that this host runs at the most; 0: any number.")  # fmt: skip
    labels: dict[str, str] = _setting({}, "--labels", kind="labels",
        help="What this host has, as `site: north`: a channel whose `placement` names labels runs on hosts that have them "
             "all (command line: `site:north`, may be repeated).")  # fmt: skip
    lease_ttl: float = _setting(20.0, "--lease-ttl", minimum=2.0, maximum=3600,
        help="Seconds after which another host takes over what a host runs that has not been heard of.")  # fmt: skip
    moves_per_minute: int = _setting(60, "--moves-per-minute", minimum=1,
        help="Channels that this host gives up in a minute, at the most, for others to have their share.")  # fmt: skip

    @property
    def run_dir(self) -> Path:
        """Sockets and the like: what means nothing after a restart."""
        return Path(self.data_dir) / "run"

    @property
    def log_dir(self) -> Path:
        """Logs of the processes themselves (a channel's own log is in logging_path)."""
        return Path(self.data_dir) / "log"

    @property
    def server_passwords(self) -> list[str]:
        """What no log may show, whatever it tells of."""
        passphrase = self.amqp.tls.key_passphrase if self.amqp.tls else None
        secrets = (*self.redis.secrets, self.amqp.password, passphrase, self.admin_token, self.sentry_dsn)
        return [password for password in secrets if password]

    @property
    def supervisor_socket(self) -> Path:
        return self.run_dir / "supervisor.sock"

    @property
    def door(self) -> Path | None:
        """Where channels leave their routes for the shared HTTP listener; None where there is none."""
        return self.run_dir.absolute() / "door" if self.http_types.port else None

    def channel_log_path(self, unit: str) -> Path:
        return Path(self.logging_path) / names.log_name(unit)

    @property
    def suspects_dir(self) -> Path:
        """Files in which channels' processes note what they are busy with, one a unit (worker/suspects.py)."""
        return self.run_dir / "suspects"

    @property
    def accepted_dir(self) -> Path:
        """Files in which they note what providers have accepted, likewise (worker/outbound/journal.py)."""
        return self.run_dir / "accepted"


@dataclass(frozen=True)
class Option:
    """One setting as every reader of the declaration sees it."""

    path: tuple[str, ...]
    kind: str
    """`str`, `int`, `float`, `bool`, `switch` (a flag without a value), `delays`, `words`, `networks`, `servers`, `tls`,
    `queue type`, `mapping`, `labels` or `plugins`."""
    optional: bool
    default: Any
    flag: str
    short: str
    help: str
    minimum: float | None
    maximum: float | None
    secret: bool

    @property
    def name(self) -> str:
        """As in the file: `redis.host`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable; empty where there is none."""
        return ENVIRONMENT_PREFIX + self.flag.removeprefix("--").replace("-", "_").upper() if self.flag else ""

    @property
    def repeatable(self) -> bool:
        return self.kind in ("mapping", "labels", "plugins")


_GROUPS = {each.__name__: each for each in (RedisSettings, AmqpSettings, HttpTypesSettings)}


def _options(settings: type, prefix: tuple[str, ...] = ()) -> list[Option]:
    found: list[Option] = []
    for entry in dataclasses.fields(settings):
        group = _GROUPS.get(str(entry.type))
        if group:
            found += _options(group, (*prefix, entry.name))
            continue
        about = entry.metadata
        make = entry.default_factory
        default = make() if make is not dataclasses.MISSING else entry.default
        annotation = str(entry.type)
        found.append(
            Option(
                path=(*prefix, entry.name),
                kind=about["kind"] or annotation.removesuffix(" | None"),
                optional=annotation.endswith("| None"),
                default=default,
                **{name: about[name] for name in ("flag", "short", "help", "minimum", "maximum", "secret")},
            )
        )
    return found


OPTIONS: tuple[Option, ...] = tuple(_options(Settings))
