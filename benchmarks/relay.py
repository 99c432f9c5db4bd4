"""A relay between clients and a service, whose connections can be cut or fall silent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

CHUNK = 1 << 16


class Relay:
    """Passes bytes on between its own port and the service's."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._mute: set[asyncio.StreamWriter] = set()  # get no more bytes
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""  # of its own

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0, limit=CHUNK)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset all connections, both ways; new ones are welcome."""
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Pass nothing on over what is connected now, and close nothing: a cable was pulled."""
        self._mute |= self._writers

    async def close(self) -> None:
        """Close everything."""
        self.cut()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, int(self._port), limit=CHUNK)
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if target in self._mute:
                    await asyncio.Event().wait()  # until the relay is closed
                target.write(data)
                await target.drain()
        target.close()
        self._writers.discard(target)
