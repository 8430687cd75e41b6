"""Where Redis is: by URL, on a socket, with TLS and a username, and wherever the sentinels say that the master is."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import redis

from junebug.client.doctor import redis as doctor_redis
from junebug.config.addresses import Address
from junebug.config.declaration import RedisSettings, Settings
from junebug.config.load import load
from junebug.errors import StartupError, StoreUnavailable
from junebug.runtime.tls import TlsOptions
from junebug.stores import Stores, client, specs
from junebug.stores.client import RedisClient
from junebug.stores.inspection import ask_sentinels, inspect
from tests import certificates
from tests.polling import eventually
from tests.proxy import Gate, between
from tests.sentinels import MASTER, Fleet, SentinelServer, fleet
from tests.servers import RedisServer, free_port


async def answer(settings: RedisSettings, *command: Any) -> Any:
    link = RedisClient(settings, 5)
    try:
        (reply,) = await link.run(command or ("PING",))
        return reply
    finally:
        await link.close()


async def test_a_username_is_said_with_its_password(own_redis: RedisServer) -> None:
    with redis.Redis(port=own_redis.port) as link:
        link.execute_command("ACL", "SETUSER", "june", "on", ">sesame:/@", "~*", "&*", "+@all")
    there = RedisSettings(host=own_redis.host, port=own_redis.port, username="june", password="sesame:/@")
    assert await answer(there, "ACL", "WHOAMI") == "june"
    url = f"redis://june:sesame%3A%2F%40@127.0.0.1:{own_redis.port}/3"
    assert await answer(load({"redis.url": url}).redis, "ACL", "WHOAMI") == "june"
    with pytest.raises(StartupError, match=r"^redis\.password: ") as error:
        await client.check(dataclasses.replace(there, password="wrong-word"), 5)
    assert "wrong-word" not in str(error.value)


async def test_a_unix_socket(own_redis: RedisServer, short_dir: Path) -> None:
    path = short_dir / "redis.sock"
    own_redis.kill()
    (program,) = own_redis.programs()
    command = (*program.command, "--unixsocket", str(path))
    own_redis.programs = lambda: (dataclasses.replace(program, command=command),)  # type: ignore[method-assign]
    own_redis.start()
    for settings in (RedisSettings(host=str(path)), load({"redis.url": f"unix://{path}?db=2"}).redis):
        assert await answer(settings) == "PONG"
    with pytest.raises(StartupError, match=rf"^redis\.host, redis\.port: Redis at {path}x cannot be used"):
        await client.check(RedisSettings(host=f"{path}x"), 5)


async def test_tls(redis_settings: RedisSettings, tmp_path: Path) -> None:
    certificates.made_in(tmp_path)
    trusted = TlsOptions(ca_file=str(tmp_path / "ca.pem"), server_name=certificates.NAME)
    async with between(redis_settings.port, tls=certificates.server_context(tmp_path)) as port:
        there = dataclasses.replace(redis_settings, host="127.0.0.1", port=port)
        assert await answer(dataclasses.replace(there, tls=trusted)) == "PONG"
        by_url = {"redis.url": f"rediss://127.0.0.1:{port}", "redis.tls": '{"verify": false}'}
        assert await answer(load(by_url).redis) == "PONG"
        other = dataclasses.replace(trusted, server_name="another.example")
        for options in (TlsOptions(), other, TlsOptions(ca_file="none.pem")):
            with pytest.raises(StartupError, match=r"^redis\.tls: "):
                await client.check(dataclasses.replace(there, tls=options), 5)


# --- sentinels --------------------------------------------------------------------------------------------------------


@pytest.fixture
def servers() -> Iterator[Fleet]:
    with fleet() as servers:
        yield servers


@pytest.fixture
async def stores(servers: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    monkeypatch.setattr(specs, "SUBSCRIBE_PAUSES", (0.05, 0.2))
    stores = Stores(Settings(redis=servers.settings, request_timeout=2.0))
    yield stores
    await stores.close()


async def has_moved(stores: Stores, old: Address) -> None:
    async def writes() -> bool:
        try:
            await stores.check_writable()
        except StoreUnavailable:
            return False
        return stores.redis_address() != old

    await eventually(writes, what="another master")


async def heard_on(stores: Stores, heard: Any) -> None:
    """A change that is told now is heard, in the end."""

    async def listen() -> None:
        while await anext(heard) != "c":
            pass

    listening = asyncio.ensure_future(listen())

    async def told() -> bool:
        await stores.channels.notify_changed("c")
        return listening.done()

    await eventually(told, what="what is published")


@pytest.mark.parametrize("end", ["killed", "frozen", "demoted"])
async def test_commands_and_subscriptions_go_on_with_the_new_master(servers: Fleet, stores: Stores, end: str) -> None:
    master = await asyncio.to_thread(servers.master)
    async with aclosing(stores.channels.all_changes()) as heard:  # type: ignore[type-var]
        await heard_on(stores, heard)
        old = stores.redis_address()
        assert old.port == master.port
        match end:
            case "killed":
                master.kill()
            case "frozen":
                master.signal(signal.SIGSTOP)
            case "demoted":
                with redis.Redis(port=servers.sentinels[0].port) as link:
                    link.execute_command("SENTINEL", "FAILOVER", MASTER)
        await has_moved(stores, old)
        await heard_on(stores, heard)
        master.signal(signal.SIGCONT)


async def test_a_link_to_what_is_a_replica_now_is_given_up(own_redis: RedisServer) -> None:
    """Whatever made it one: its name may stand for another one now."""
    stores = Stores(Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port)))
    await stores.check_writable()
    with redis.Redis(port=own_redis.port) as link:
        before = stores._redis._connection._writer
        link.replicaof("127.0.0.1", str(free_port()))
        for command in (("SET", "a", "b"), ("EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "a")):
            with pytest.raises(StoreUnavailable):
                await stores._redis.run(command)
            assert not stores._redis._connection.is_connected
        link.replicaof("NO", "ONE")
    await stores.check_writable()
    assert stores._redis._connection._writer is not before
    await stores.close()


async def test_a_sentinel_that_names_a_replica_is_not_believed(servers: Fleet) -> None:
    """One that was cut off, and has not heard of the failover."""
    replica, master = servers.servers[1], servers.servers[0]
    behind = SentinelServer(free_port())
    behind.master = replica.port
    config = f"port {behind.port}\nbind 127.0.0.1\ndir {behind.directory}\nsentinel monitor {MASTER} 127.0.0.1 {replica.port} 1\n"
    (behind.directory / "sentinel.conf").write_text(config)
    try:
        behind.start()
        settings = dataclasses.replace(servers.settings, sentinels=[f"127.0.0.1:{behind.port}"])
        with pytest.raises(StoreUnavailable, match="is no master any more, or not yet, but a slave"):
            await answer(settings)
        both = dataclasses.replace(settings, sentinels=[*settings.sentinels, servers.settings.sentinels[0]])
        for _ in range(8):
            link = RedisClient(both, 5)

            async def writes(link: RedisClient = link) -> bool:
                try:
                    await link.run(("SET", "a", "b", "EX", "60"))
                except StoreUnavailable:
                    return False
                return True

            await eventually(writes)
            assert link.address.port == master.port
            await link.close()
    finally:
        behind.destroy()


async def test_sentinels_that_are_away_silent_or_know_no_such_master(servers: Fleet) -> None:
    first, *others = servers.sentinels
    first.kill()
    others[0].signal(signal.SIGSTOP)
    for _ in range(5):
        assert await answer(servers.settings) == "PONG"
    with pytest.raises(StartupError) as error:
        await client.check(dataclasses.replace(servers.settings, master_name="another"), 5)
    told = str(error.value)
    assert told.startswith("redis.sentinels, redis.master_name: Redis another (sentinels ")
    assert f"sentinel 127.0.0.1:{first.port}: " in told
    assert f"sentinel 127.0.0.1:{others[0].port}: it did not answer within 1 s" in told
    assert f"sentinel 127.0.0.1:{others[1].port}: it knows no master 'another'" in told


async def test_a_sentinels_password(servers: Fleet) -> None:
    for sentinel in servers.sentinels:
        with redis.Redis(port=sentinel.port) as link:
            link.execute_command("ACL", "SETUSER", "default", "resetpass", ">sesame")
    settings = dataclasses.replace(servers.settings, sentinel_password="sesame")
    assert await answer(settings) == "PONG"
    for password in (None, "wrong-word"):
        with pytest.raises(StartupError, match=r"^redis\.sentinel_password: ") as error:
            await client.check(dataclasses.replace(servers.settings, sentinel_password=password), 5)
        assert "wrong-word" not in str(error.value)


async def test_what_the_doctor_says_of_sentinels(servers: Fleet) -> None:
    async def looked_at() -> list[Any]:
        link = RedisClient(servers.settings, 5)
        facts = await inspect(link)
        await link.close()
        said = await ask_sentinels(servers.settings)
        return [doctor_redis.sentinels(said), *doctor_redis.judge(facts, servers.settings, 1)]

    def level(findings: list[Any], check: str) -> str:
        return next(each.level for each in findings if each.check == check)

    found = await looked_at()
    assert (level(found, "redis sentinels"), level(found, "redis failover")) == ("ok", "warning")
    await asyncio.to_thread(servers.configure, min_replicas_to_write="1")
    assert level(await looked_at(), "redis failover") == "ok"
    servers.sentinels[1].kill()
    found = await looked_at()
    assert level(found, "redis sentinels") == "warning"
    assert f"127.0.0.1:{servers.sentinels[1].port}" in found[0].found
    assert doctor_redis.sentinels({Address("a", 1): "sentinel a:1: it is away"}).level == "failed"
    a, b = Address("a", 1), Address("b", 1)
    assert doctor_redis.sentinels({a: a, b: b}).level == doctor_redis.sentinels({a: a, b: a}).level == "warning"


# --- what a failover loses --------------------------------------------------------------------------------------------

class Traffic:
    """Writes of many at once, and which of them Redis acknowledged."""

    def __init__(self, stores: Stores) -> None:
        self._run = stores._redis.run
        self._numbers = itertools.count()
        self.refused = 0
        self.acknowledged: list[str] = []
        self._tasks = [asyncio.create_task(self._write()) for _ in range(20)]

    async def _write(self) -> None:
        for number in self._numbers:
            try:
                await self._run(("SET", f"k{number}", "1", "EX", "600"))
                self.acknowledged.append(f"k{number}")
            except StoreUnavailable:
                self.refused += 1
                await asyncio.sleep(0.01)

    async def more(self, number: int = 200) -> None:
        wanted = len(self.acknowledged) + number
        await eventually(lambda: len(self.acknowledged) >= wanted, what="more writes")

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.parametrize("is_held_back", [False, True])
@pytest.mark.parametrize("is_cut", [False, True])
async def test_what_a_failover_loses(servers: Fleet, stores: Stores, is_cut: bool, is_held_back: bool) -> None:
    """docs/scale-out.md has the numbers. `is_cut`: before that nothing of the master reaches its replicas."""
    options = {"min_replicas_to_write": "1", "min_replicas_max_lag": "1"} if is_held_back else {}
    await asyncio.to_thread(servers.configure, **options)
    master, *replicas = servers.servers
    async with Gate(master.port) as gate:
        for each in replicas:
            with redis.Redis(port=each.port) as link:
                await asyncio.to_thread(link.replicaof, "127.0.0.1", str(gate.port))
        await eventually(lambda: asyncio.to_thread(servers.replicates), what="replicas behind the gate")
        traffic = Traffic(stores)
        await traffic.more()
        old, before, refused = stores.redis_address(), len(traffic.acknowledged), traffic.refused
        cut = asyncio.get_running_loop().time()
        if is_cut:
            gate.shut()
            if is_held_back:
                await eventually(lambda: traffic.refused > refused, what="refusals")
            else:
                await traffic.more(10_000)
        took, meanwhile = asyncio.get_running_loop().time() - cut, len(traffic.acknowledged) - before
        master.kill()
        gone = asyncio.get_running_loop().time()
        await has_moved(stores, old)
        away = asyncio.get_running_loop().time() - gone
        await traffic.more()
        await traffic.end()
        there = await stores._redis.run(*(("EXISTS", key) for key in traffic.acknowledged))
    lost = there.count(0)
    print(
        f"\ncut {is_cut}, held back {is_held_back}: {before} acknowledged before, {meanwhile} in {took:.1f} s while cut;"
        f" {lost} lost of {len(there)}; away for {away:.1f} s"
    )
    assert lost <= meanwhile + len(traffic._tasks)
    assert lost or not is_cut
