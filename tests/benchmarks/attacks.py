"""What hostile connections do to the server, each until it is closed; attack_serve.py measures what that does."""

import asyncio
import contextlib
import io
import os
from collections.abc import Awaitable, Callable
from functools import cache
from multiprocessing.synchronize import Event

from PIL import Image

from support.hostile_images import COSTLY

BODY_BYTES = 6 << 20
UNREAD_SECONDS = 10.0
RETRY_SECONDS = 1.0

Writer = asyncio.StreamWriter
Reader = asyncio.StreamReader
Attack = Callable[[Reader, Writer], Awaitable[None]]


@cache
def slow_image() -> bytes:
    """Return a PNG of 40 megapixels, which takes about half a second to decode."""
    buffer = io.BytesIO()
    Image.effect_noise((500, 400), 60).convert("RGB").resize((8000, 5000), Image.Resampling.NEAREST).save(
        buffer, "PNG", compress_level=1
    )
    return buffer.getvalue()


# attacks: what one connection does until it is closed

HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\n"


async def long_header(reader: Reader, writer: Writer) -> None:
    data = HEAD + b"Accept: " + b"*," * 30_000 + b"*\r\nContent-Length: 1\r\n\r\nx"
    while True:
        writer.write(data)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")


async def short_lines(reader: Reader, writer: Writer) -> None:
    writer.write(HEAD + b"a:b\r\n" * 13_000)
    await writer.drain()
    await reader.read()


async def slow_body(reader: Reader, writer: Writer) -> None:
    """Hold back the last byte; after a 503 take half of it, so that no room is left."""
    size = BODY_BYTES
    while True:
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size - 1))
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")
        size = max(20_000, size // 2)


async def small_chunks(reader: Reader, writer: Writer) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n" * 1000)
        await writer.drain()
        await asyncio.sleep(0.01)


async def pipeline(reader: Reader, writer: Writer) -> None:
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /ping HTTP/1.1\r\n\r\n" * 12_000)
    await asyncio.sleep(UNREAD_SECONDS)


async def hang_up(reader: Reader, writer: Writer) -> None:
    body = slow_image()
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.transport.abort()


def sending(name: str) -> Attack:
    """Return the attack that sends a costly image, and once more a second after each response, as Retry-After says."""

    async def send(reader: Reader, writer: Writer) -> None:
        body = costly_image(name)
        while True:
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            await asyncio.sleep(RETRY_SECONDS)

    return send


@cache
def costly_image(name: str) -> bytes:
    """Return a file of the kind that a decoder spends seconds or gigabytes on."""
    return COSTLY[name][0]()


ATTACKS: dict[str, tuple[Attack | None, int]] = {  # and how many times the connections
    "quiet": (None, 0),
    "long header": (long_header, 1),
    "short lines": (short_lines, 5),
    "slow body": (slow_body, 1),
    "small chunks": (small_chunks, 1),
    "pipeline": (pipeline, 1),
    "hang up": (hang_up, 1),
}
IMAGE_ATTACKS = {name: sending(name) for name in COSTLY}  # with 64 connections


def attack(name: str, port: int, connections: int, begun: Event) -> None:
    """Attack until this process is ended."""
    os.nice(10)
    behave = IMAGE_ATTACKS.get(name) or ATTACKS[name][0]
    assert behave
    if behave is hang_up:
        slow_image()
    if name in COSTLY:
        costly_image(name)
    begun.set()

    async def connection() -> None:
        while True:
            with contextlib.suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.closing(writer):
                    await behave(reader, writer)
            await asyncio.sleep(0.1)

    async def run() -> None:
        await asyncio.gather(*(connection() for _ in range(connections)))

    asyncio.run(run())
