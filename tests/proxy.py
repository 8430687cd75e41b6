"""Somebody between Junebug and a server, who changes what that says, or is slow to pass it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext


@asynccontextmanager
async def between(
    port: int, change: Callable[[bytes], bytes] = bytes, delay: float = 0.0, tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """The port to connect to instead. `change`: of each piece that the server sends; `delay`: before it, in seconds; `tls`: which
    is talked there.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        try:
            while piece := await reader.read(65536):
                if is_answer:
                    await asyncio.sleep(delay)
                    piece = change(piece)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        for work in (pipe(reader, to_writer, False), pipe(to_reader, writer, True)):
            tasks.add(asyncio.create_task(work))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
