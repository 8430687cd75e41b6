"""Telnet with addresses: the client is first asked for the to_addr and from_addr that its messages shall bear."""

from __future__ import annotations

from junebug.transports.telnet.transport import Client, TelnetTransport

INTRODUCTION_TIMEOUT = 30.0
"""Seconds that a client may take to each of its two answers."""


class AddressedTelnetTransport(TelnetTransport):
    """As telnet; a client is addressed by the from_addr that it gave."""

    async def introduce(self, client: Client) -> bool:
        answers = []
        for name in ("to_addr", "from_addr"):
            await client.write(f'Please provide "{name}":\n'.encode())
            answer = await client.read_line_within(INTRODUCTION_TIMEOUT)
            if answer is None:
                return False
            answers.append(answer.strip())
        client.to_addr, client.from_addr = answers
        await client.write(f"[Sending all messages to: {client.to_addr} and from: {client.from_addr}]\n".encode())
        return True
