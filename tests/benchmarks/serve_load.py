"""Images, clients and what they measure: the load that benchmarks put on a server."""

import asyncio
import contextlib
import io
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 384, 512  # of the images, as in the competition
LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Load:
    """The load that clients measured: requests per second, and seconds per request."""

    per_second: float
    median: float
    p99: float
    requests: int


def drawn_images(count: int = 16) -> list[bytes]:
    """Draw JPEGs of about 30 kB."""
    found = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.float32)
        noisy = smooth + random.normal(0, 7, smooth.shape)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
        found.append(buffer.getvalue())
    return found


def request(body: bytes, media_type: str) -> bytes:
    """Return an HTTP request with a body."""
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _client(port: int, bodies: list[bytes], ends: float, times: list[float], first: int) -> None:
    """Send one request after the other, each after the response to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.monotonic() < ends:
        started = time.monotonic()
        writer.write(bodies[number % len(bodies)])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        times.append(time.monotonic() - started)
        number += 1
    writer.close()


def measure(port: int, bodies: list[bytes], clients: int, seconds: float) -> Load:
    """Measure `clients` clients for some seconds."""
    times: list[float] = []

    async def run() -> float:
        started = time.monotonic()
        await asyncio.gather(*(_client(port, bodies, started + seconds, times, first) for first in range(clients)))
        return time.monotonic() - started

    took = asyncio.run(run())
    times.sort()
    return Load(len(times) / took, statistics.median(times), times[int(len(times) * 0.99)], len(times))


def first_response(port: int, body: bytes, media_type: str) -> None:
    """Send one request, and return when its response is there."""
    import urllib3  # here, as a GPU machine may not have it

    url, headers = f"http://127.0.0.1:{port}/invocations", {"Content-Type": media_type}
    response = urllib3.request("POST", url, body=body, headers=headers, retries=False)
    assert response.status == 200, response.data


def wait(port: int, process: "subprocess.Popen[bytes]", pause: float = 0.1) -> None:
    """Wait until a server is ready, with a pause in seconds between looks."""
    import urllib3

    ends = time.monotonic() + LIMIT_SECONDS
    while True:
        assert process.poll() is None, "the server ended before it was ready"
        assert time.monotonic() < ends, "the server is not ready in time"
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", f"http://127.0.0.1:{port}/ping", retries=False, timeout=2).status == 200:
                return
        time.sleep(pause)


def free_ports(count: int) -> list[int]:
    """Return ports that no process listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
