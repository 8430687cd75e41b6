"""Somebody between Junebug and a server, who changes what that says, or is slow to pass it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def between(port: int, change: Callable[[bytes], bytes] = bytes, delay: float = 0.0) -> AsyncIterator[int]:
    """The port to connect to instead. `change`: of each piece that the server sends; `delay`: before it, in seconds."""
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if is_answer:
                    await asyncio.sleep(delay)
                    piece = change(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        for work in (pipe(reader, to_writer, False), pipe(to_reader, writer, True)):
            tasks.add(asyncio.create_task(work))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
