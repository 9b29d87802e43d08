"""The server under attack: what an honest client still gets, and what the server takes, one line for each attack.

    python tests/benchmarks/attack_serve.py --connections 100 --seconds 10

    quiet         no attack
    long header   Accept of 60 kB, one request after the other on each connection
    short lines   64 kB of header lines of five bytes, without an end; five times as many connections
    slow body     a body of 6 MB but its last byte; after a 503 half of it, and so on
    small chunks  a body in chunks of one byte
    pipeline      256 kB of pipelined requests whose responses are never read
    hang up       a PNG of 40 megapixels, and the client hangs up as soon as it is sent
    the images    each kind of tests/support/hostile_images.py that costs seconds or gigabytes, on 64 connections
    stop          SIGTERM while such images fill the queue: exit code, seconds until the exit, tracebacks

An attack is withstood (+) if honest clients get at least 97 % of 200s, with a p50 of less than twice the quiet one and
a p99 of less than a second, and the server with all its processes stays below 1.5 GB.

Connections that the server closes are opened again. The honest clients send an image of 45 kB every 50 ms each. The
attackers run at low priority, as if on another machine. Memory is the peak of the server and its child processes.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

from benchmarks.attacks import ATTACKS, IMAGE_ATTACKS, attack, slow_image
from benchmarks.serve_load import drawn_images, request
from data.images import Preparation
from description import Description
from labels import MASKED_FACES
from model_files import publish
from support.serving import Running, server_command

HONEST_CLIENTS, PAUSE_SECONDS, GIVE_UP_SECONDS = 4, 0.05, 10.0
IMAGE_CONNECTIONS = 64
LEAST_SHARE, MOST_QUIET, MOST_P99, MOST_BYTES = 0.97, 2.0, 1.0, 1.5e9  # the bars

# the honest clients


async def honest(port: int, bodies: list[bytes], ends: float, found: list[tuple[str, float]]) -> None:
    """Send one image after the other; record the status (or what else happened) and the seconds of each."""
    reader: asyncio.StreamReader | None = None
    number = 0
    while time.monotonic() < ends:
        started, status = time.monotonic(), "closed"
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                if reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(bodies[number % len(bodies)])
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                status = head.split()[1].decode()
        except TimeoutError:
            status, reader = "no response", None
        except (OSError, EOFError):
            reader = None
        found.append((status, time.monotonic() - started))
        number += 1
        await asyncio.sleep(PAUSE_SECONDS)


def ask(port: int, seconds: float) -> list[tuple[str, float]]:
    """Return status and seconds of each honest request."""
    bodies = [request(body, "image/jpeg") for body in drawn_images(4)]
    found: list[tuple[str, float]] = []

    async def run() -> None:
        ends = time.monotonic() + seconds
        await asyncio.gather(*(honest(port, bodies, ends, found) for _ in range(HONEST_CLIENTS)))

    asyncio.run(run())
    return found


# the server


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants; what they share counts once."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


@contextlib.contextmanager
def peak_memory(pid: int) -> Iterator[list[int]]:
    """Yield a list of one number, which becomes the peak memory in the block."""
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            peak[0] = max(peak[0], proportional_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


@contextlib.contextmanager
def serving(model_dir: Path, log: Path, **settings: object) -> Iterator[Running]:
    """Run the server with its defaults, its output in a file."""
    command = server_command(model_dir, **settings)
    command["args"] = [part for part in command["args"] if part not in ("-W", "error")]
    with log.open("w") as file, subprocess.Popen(**command, stdout=file, stderr=file, text=True) as process:
        try:
            while "listening: " not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield Running(process, int(log.read_text().split("\n")[0].rsplit(":", 1)[1])).until_ready()
        finally:
            process.kill()


@contextlib.contextmanager
def under_attack(name: str, port: int, connections: int) -> Iterator[None]:
    """Attack from another process during the block."""
    if name == "quiet":
        yield
        return
    count = IMAGE_CONNECTIONS if name in IMAGE_ATTACKS else ATTACKS[name][1] * connections
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=attack, args=(name, port, count, begun))
    process.start()
    try:
        assert begun.wait(60)
        time.sleep(1)  # the first connections
        yield
    finally:
        process.kill()
        process.join()


def measure(name: str, model_dir: Path, log: Path, options: argparse.Namespace, quiet: float) -> tuple[str, float]:
    """Return the line of one attack and its p50 in seconds; `quiet` is the p50 without an attack, or 0."""
    with (
        serving(model_dir, log) as server,
        under_attack(name, server.port, options.connections),
        peak_memory(server.process.pid) as peak,
    ):
        found = ask(server.port, options.seconds)
    statuses = Counter(status for status, _ in found)
    share = statuses["200"] / len(found)
    times = sorted(took for _, took in found)
    p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
    others = ", ".join(f"{count} x {status}" for status, count in statuses.items() if status != "200")
    lines = sum(not line.startswith(("listening", "ready", "ended")) for line in log.read_text().splitlines())
    bars = (share >= LEAST_SHARE, p50 < MOST_QUIET * (quiet or p50 + 1), p99 < MOST_P99, peak[0] < MOST_BYTES)
    numbers = f"{100 * share:6.1f} %{1000 * p50:8.0f}{1000 * p99:8.0f}{peak[0] / 1e6:8.0f}{lines:6}"
    return f"{name:28}{numbers}  {''.join('-+'[bar] for bar in bars)}  {others}", p50


def measure_stop(model_dir: Path, log: Path, connections: int) -> str:
    """Return the line of a stop under load."""
    body = request(slow_image(), "image/png")

    async def one(port: int) -> str:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(body)
            return (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        return "closed"

    async def run(server: Running) -> tuple[list[str], float]:
        clients = [asyncio.create_task(one(server.port)) for _ in range(connections)]
        await asyncio.sleep(3)
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        while server.process.poll() is None and time.monotonic() - started < 120:
            await asyncio.sleep(0.05)
        return await asyncio.gather(*clients), time.monotonic() - started

    with serving(model_dir, log) as server:
        statuses, took = asyncio.run(run(server))
        code = server.process.poll()
    tracebacks = log.read_text().count("Traceback")
    return f"stop: exit code {code} after {took:.1f} s, {tracebacks} tracebacks, {dict(Counter(statuses))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100, help="hostile connections")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each attack")
    parser.add_argument("--attacks", nargs="+", default=[*ATTACKS, *IMAGE_ATTACKS, "stop"], help="attacks to run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model_dir, log = Path(folder) / "model", Path(folder) / "log"
        description = Description("TinyModel", "joint", MASKED_FACES, Preparation((128, 96)))
        publish(model_dir, description.build().state_dict(), description)
        print(f"{'attack':28}{'200s':>8}{'p50 ms':>8}{'p99 ms':>8}{'MB':>8}{'log':>6}  bars  others", flush=True)
        quiet = 0.0
        for name in options.attacks:
            if name == "stop":
                print(measure_stop(model_dir, log, options.connections), flush=True)
                continue
            line, p50 = measure(name, model_dir, log, options, quiet)
            quiet = p50 if name == "quiet" else quiet
            print(line, flush=True)


if __name__ == "__main__":
    main()
