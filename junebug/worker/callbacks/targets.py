"""Where calls of applications may go: not to denied networks, and never to our own servers (docs/access.md).

Asked of the addresses that a host's name stands for, at each connection: what a name stands for changes. A URL may be anybody's
who may send a message. Neighbour: http_client.py connects.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence

from aiohappyeyeballs import AddrInfoType

from junebug.config.addresses import Address
from junebug.config.declaration import Settings

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address is in its last 32 bits."""
_LOOPBACK = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}
MOST_KNOWN = 1000


class Refused(ValueError):
    """No call may go there."""


class Targets:
    """Of one process."""

    def __init__(self, settings: Settings, redis_address: Callable[[], Address] | None = None) -> None:
        """`redis_address`: where Redis is at the moment, where sentinels say so."""
        self._denied = [ipaddress.ip_network(text) for text in settings.callback_deny]
        self._allowed = [ipaddress.ip_network(text) for text in settings.callback_allow]
        self._servers = [
            *(("RabbitMQ", address) for address in settings.amqp.addresses),
            *(("Redis", address) for address in settings.redis.sentinel_addresses),
        ]
        self._redis_address = redis_address or (lambda: settings.redis.address)
        self._api_port = settings.port
        self._is_denied = functools.lru_cache(MOST_KNOWN)(self._look_up)

    async def permitted(self, host: str, found: Sequence[AddrInfoType], port: int) -> Sequence[AddrInfoType]:
        """Those of the addresses that may be called. Raises Refused when there is none."""
        addresses = [plain(str(each[4][0])) for each in found]
        left = [each for each, address in zip(found, addresses, strict=True) if not self._is_denied(address)]
        if not left:
            raise Refused(f"{host} is in a network that no call may go to: see the setting callback_deny")
        if name := await self._own_server(addresses, port):
            raise Refused(f"{host} is Junebug's own {name}: no call may go there")
        return left

    def _look_up(self, address: IpAddress) -> bool:
        return _is_in(address, self._denied) and not _is_in(address, self._allowed)

    async def _own_server(self, addresses: Iterable[IpAddress], port: int) -> str:
        """Empty: none of them is."""
        at_home = {address for address in addresses if _is_at_home(address)}
        if port == self._api_port and at_home:
            return "API"
        for name, server in (*self._servers, ("Redis", self._redis_address())):
            if port == server.port:
                its = await _addresses(server.host)
                if not its.isdisjoint(addresses) or (at_home and any(map(_is_at_home, its))):
                    return name
        return ""


def plain(text: str) -> IpAddress:
    """Without a zone; an IPv4 address that stands in one of IPv6 is that, and "any" is loopback, where it leads."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 6:
        if mapped := address.ipv4_mapped:
            address = mapped
        elif address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return _LOOPBACK[address.version] if address.is_unspecified else address


def _is_in(address: IpAddress, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address in network for network in networks)


async def _addresses(host: str) -> set[IpAddress]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {plain(str(each[4][0])) for each in found}


@functools.lru_cache(MOST_KNOWN)
def _is_at_home(address: IpAddress) -> bool:
    """Whether it is one of this machine's: a socket can be bound to it."""
    if address.is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
