"""The server against the usual handler and against its own ceiling, in one run.

    python tests/benchmarks/bench_serve.py --clients 32 --rounds 5
    python tests/benchmarks/bench_serve.py --bars      decoding in processes and in threads, see serve_bars.py

    plain      starlette, an image at a time in the thread pool: Pillow, torchvision's transforms, the model, float32
    serve      container/serve.py with its defaults, float32
    serve16    the same with SERVE_PRECISION=bf16
    ceiling    decode and model in one process without HTTP, the same threads, the best batch size and order
    ceiling16  the same in bf16
    litserve   LitServe, batches of 32, where it is installed; it takes no raw bodies, so its images travel as base64

Every leg runs the same weights on the same images, one JPEG for each request. The legs take turns, the medians over
the rounds are compared, and only the ratios mean something: the load generator shares the CPUs.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

import numpy as np
import torch
from PIL import Image

from data.images import Preparation, prepare
from description import Description
from labels import MASKED_FACES
from model_files import load, publish
from runtime.process import cpu_count
from server.settings import ServeConfig

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 384, 512  # of the images, as in the competition
BATCHES = (16, 32, 64)
LIMIT_SECONDS = 120


def drawn_images(count: int = 16) -> list[bytes]:
    """Draw JPEGs of 45 kB, which is usual for an image of that many pixels."""
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


# the legs that are servers


def plain(model_dir: Path, port: int) -> None:
    """Serve as tutorials do, but on starlette instead of FastAPI, which adds its own time."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from torchvision import transforms

    model, description = load(model_dir)
    preparation = description.preparation
    to_input = transforms.Compose(
        [
            transforms.Resize(preparation.size),
            transforms.ToTensor(),
            transforms.Normalize(preparation.mean, preparation.std),
        ]
    )

    def predict(body: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(body)).convert("RGB")
        with torch.inference_mode():
            probabilities = model(to_input(image).unsqueeze(0)).softmax(1)[0]
        label = int(probabilities.argmax())
        return {"prediction": label, "label": MASKED_FACES.classes[label], "probability": float(probabilities[label])}

    async def invocations(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(predict, await request.body()))

    async def ping(request: Request) -> Response:
        return Response()

    routes = [Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error")


def ceiling(model_dir: Path, precision: str, seconds: float) -> None:
    """Print images per second without HTTP: all threads prepare a batch during the model call before it, or after."""
    from server.classifier import Classifier

    ready = Classifier(ServeConfig(model_dir=model_dir, device="cpu", precision=precision))
    ready.warm_up()
    files, best = drawn_images(), 0.0
    decode = partial(prepare, preparation=ready.preparation)
    rounds = [(size, ahead) for size in BATCHES for ahead in (True, False)]
    with ThreadPoolExecutor(ready.cpus) as pool:
        for size, ahead in rounds:
            done, started = 0, time.monotonic()
            coming = pool.map(decode, (files * size)[:size])
            while time.monotonic() - started < seconds / len(rounds):
                pixels = np.stack(list(coming))
                if ahead:
                    coming = pool.map(decode, (files * size)[:size])
                ready(pixels)
                if not ahead:
                    coming = pool.map(decode, (files * size)[:size])
                done += size
            best = max(best, done / (time.monotonic() - started))
            list(coming)
    print(best)


# load


@dataclass(frozen=True)
class Load:
    """The load that clients measured: requests per second, and seconds per request."""

    per_second: float
    median: float
    p99: float


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
    return Load(len(times) / took, statistics.median(times), times[int(len(times) * 0.99)])


def request(body: bytes, media_type: str) -> bytes:
    """Return an HTTP request with a body."""
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# the comparison


@contextlib.contextmanager
def server(leg: str, model_dir: Path, port: int) -> Iterator[None]:
    """Run a leg as a process of its own, once it is ready."""
    environ = os.environ | {
        "SM_MODEL_DIR": str(model_dir),
        "SERVE_HOST": "127.0.0.1",
        "SERVE_DEVICE": "cpu",
        "SERVE_PRECISION": "bf16" if leg == "serve16" else "fp32",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}",
    }
    commands = {
        "plain": [__file__, "--leg", "plain", "--model-dir", str(model_dir), "--port", str(port)],
        "litserve": [str(Path(__file__).with_name("litserve_leg.py")), str(model_dir), str(port)],
    }
    command = commands.get(leg, [str(ROOT / "container" / "serve.py")])
    with subprocess.Popen(
        [sys.executable, *command], env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait(port, process)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def wait(port: int, process: subprocess.Popen[bytes], pause: float = 0.1) -> None:
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
    import socket

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def measure_ceiling(model_dir: Path, precision: str, seconds: float) -> float:
    """Return the images per second of `ceiling`, in a process of its own."""
    line = [sys.executable, __file__, "--leg", "ceiling", "--model-dir", str(model_dir), "--precision", precision]
    done = subprocess.run([*line, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def compare(options: argparse.Namespace) -> None:
    """Run all legs in turn and print the results."""
    files = drawn_images()
    raw = [request(body, "image/jpeg") for body in files]
    packed = [
        request(json.dumps({"image": base64.b64encode(body).decode()}).encode(), "application/json") for body in files
    ]
    legs = ["plain", "serve", "serve16"] + (["litserve"] if find_spec("litserve") else [])
    crowd: dict[str, list[Load]] = defaultdict(list)
    alone: dict[str, list[Load]] = defaultdict(list)
    ceilings: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        model_dir = Path(folder) / "model"
        description = Description(options.model, "joint", MASKED_FACES, Preparation((128, 96)))
        torch.manual_seed(0)
        publish(model_dir, description.build().state_dict(), description)
        for number in range(options.rounds):
            for leg, port in zip(legs, free_ports(len(legs)), strict=True):
                bodies = packed if leg == "litserve" else raw
                with server(leg, model_dir, port):
                    measure(port, bodies, options.clients, 1)
                    crowd[leg].append(measure(port, bodies, options.clients, options.seconds))
                    alone[leg].append(measure(port, bodies, 1, options.seconds / 2))
            for leg, precision in (("serve", "fp32"), ("serve16", "bf16")):
                ceilings[leg].append(measure_ceiling(model_dir, precision, options.seconds))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    report(options, legs, crowd, alone, ceilings)


def report(
    options: argparse.Namespace,
    legs: list[str],
    crowd: dict[str, list[Load]],
    alone: dict[str, list[Load]],
    ceilings: dict[str, list[float]],
) -> None:
    """Print the medians over the rounds, and the ratios to the usual handler and to the ceiling."""
    size = sum(map(len, drawn_images())) / 16_000
    print(
        f"{options.model}, 128 x 96, JPEGs of {size:.0f} kB, {options.clients} clients, {cpu_count()} CPUs, "
        f"torch {torch.__version__}, {options.rounds} rounds; medians"
    )
    print(f"{'':10}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}   alone {'req/s':>8}{'p50 ms':>8}")
    for leg in legs:
        many, one = crowd[leg], alone[leg]
        print(
            f"{leg:10}{middle(many, 'per_second'):8.0f}{1000 * middle(many, 'median'):8.1f}"
            f"{1000 * middle(many, 'p99'):8.1f}         {middle(one, 'per_second'):8.0f}"
            f"{1000 * middle(one, 'median'):8.1f}"
        )
    for leg, found in ceilings.items():
        print(f"{leg.replace('serve', 'ceiling'):10}{statistics.median(found):8.0f}")
    base, base_alone = middle(crowd["plain"], "per_second"), middle(alone["plain"], "median")
    for leg in legs[1:]:
        speed = middle(crowd[leg], "per_second")
        slowest = middle(crowd[leg], "p99") / middle(crowd["plain"], "p99")
        text = f"{leg}: {speed / base:.2f} x the requests of plain, p99 {slowest:.2f} x its time"
        text += f", alone {middle(alone[leg], 'median') / base_alone:.2f} x its time"
        if leg in ceilings:
            text += f", {speed / statistics.median(ceilings[leg]):.2f} of its ceiling"
        print(text)


def middle(loads: list[Load], name: str) -> float:
    """Return the median of one number over the rounds."""
    return float(statistics.median(getattr(load, name) for load in loads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="network to serve")
    parser.add_argument("--clients", type=int, default=32, help="clients at the same time")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all legs")
    parser.add_argument("--seconds", type=float, default=4, help="seconds of one measurement")
    parser.add_argument("--leg", help=argparse.SUPPRESS)
    parser.add_argument("--model-dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--bars", action="store_true", help="compare decoding in processes and in threads instead")
    parser.add_argument("--before", type=Path, help="checkout of the server to compare with")
    options = parser.parse_args()
    if options.bars:
        from benchmarks.serve_bars import compare_ways

        compare_ways(options)
    elif options.leg == "plain":
        plain(options.model_dir, options.port)
    elif options.leg == "ceiling":
        ceiling(options.model_dir, options.precision, options.seconds)
    else:
        compare(options)


if __name__ == "__main__":
    main()
