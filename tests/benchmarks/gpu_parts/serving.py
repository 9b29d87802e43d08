"""The server on the GPU: its first requests, 32 clients, and predictions in company against alone."""

import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.networks import pixels_of
from benchmarks.serve_load import drawn_images, measure, request
from data.images import Pixels, Preparation
from description import Description
from labels import MASKED_FACES
from model_files import publish
from runtime.process import cpu_count
from server.settings import ServeConfig
from support.serving import InProcess, Running, encoded_image

ROOT = Path(__file__).resolve().parents[3]
SIZE = (128, 96)
CPUS, REQUESTS_PER_SECOND = 16, 3 * 1265  # the bar, on a machine with as many CPUs
CLIENTS = {"tiny": (1, 2), "short": (4, 8), "long": (4, 8)}  # processes of the load generator, clients in each
SECONDS = {"tiny": 0.3, "short": 5.0, "long": 15.0}
START_SECONDS = 60
SIZES = {"tiny": (1, 3, 4), "short": range(1, 33), "long": range(1, 33)}  # of batches


def run(check: Check) -> None:
    """Measure a server in a process of its own, then look at single batches in this one."""
    with tempfile.TemporaryDirectory() as scratch:
        model_dir = Path(scratch)
        architecture = "TinyModel" if check.form == "tiny" else "resnet18"
        description = Description(architecture, "joint", MASKED_FACES, Preparation(SIZE))
        torch.manual_seed(0)
        publish(model_dir, description.build().state_dict(), description)
        measure_server(check, model_dir)
        look_at_batches(check, model_dir)


def measure_server(check: Check, model_dir: Path) -> None:
    """Time the start, the first requests, and many clients."""
    images = drawn_images(4 if check.form == "tiny" else 16)
    processes, clients = CLIENTS[check.form]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        ready = [pool.submit(time.sleep, 0.2) for _ in range(processes)]  # so that all of them have started
        started = time.perf_counter()
        with running(model_dir, check.device) as server:
            check.note("seconds until the server is ready", time.perf_counter() - started)
            taken = [timed_post(server, body) for body in images]
            check.note("first request: ms", 1000 * taken[0])
            check.note("later requests, one client: ms, median", 1000 * statistics.median(taken[1:]))
            for each in ready:
                each.result()
            bodies = [request(body, "image/jpeg") for body in images]
            for seconds in (SECONDS[check.form] / 5, SECONDS[check.form]):  # the first warms up
                runs = [pool.submit(measure, server.port, bodies, clients, seconds) for _ in range(processes)]
                loads = [each.result() for each in runs]
    rate, name = sum(found.per_second for found in loads), f"{processes * clients} clients"
    check.note(f"{name}: p50 ms", 1000 * statistics.median(found.median for found in loads))
    check.note(f"{name}: p99 ms", 1000 * max(found.p99 for found in loads))
    if cpu_count() >= CPUS:
        check.at_least(f"{name}: requests/s", rate, REQUESTS_PER_SECOND)
    else:
        check.note(f"{name}: requests/s", rate)
        check.skip("bar of requests/s", f"it is for {CPUS} CPUs, here are {cpu_count()}")


def timed_post(server: Running, body: bytes) -> float:
    """Send one request on its own connection; returns its seconds."""
    started = time.perf_counter()
    response = server.post(body, Content_Type="image/jpeg")
    assert response.status == 200, response.text
    return time.perf_counter() - started


@contextmanager
def running(model_dir: Path, device: str) -> Iterator[Running]:
    """Run serve.py in a process of its own and yield it once it is ready."""
    environ = os.environ | {
        "SM_MODEL_DIR": str(model_dir),
        "SERVE_HOST": "127.0.0.1",
        "SERVE_DEVICE": device,
        "SAGEMAKER_BIND_TO_PORT": "0",
    }
    line = [sys.executable, str(ROOT / "container" / "serve.py")]
    with subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.match(r"listening: .*:(\d+)$", process.stdout.readline())
            assert found, "the server does not listen"
            server, ends = Running(process, int(found[1])), time.monotonic() + START_SECONDS
            while server.get("/ping").status != 200:
                assert process.poll() is None, "the server ended before it was ready"
                assert time.monotonic() < ends, "the server is not ready in time"
                time.sleep(0.02)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.close()  # type: ignore[union-attr]


Calls = list[tuple[NDArray[np.float32], float, float]]  # probabilities, seconds of the first and of the second call


def look_at_batches(check: Check, model_dir: Path) -> None:
    """Time the first and the second call of each batch size in the model's own thread, and compare the predictions."""
    sizes = SIZES[check.form]
    pixels = pixels_of(max(sizes), SIZE)
    with InProcess(ServeConfig(model_dir=model_dir, device=check.device)) as server:
        calls = in_model_thread(server.until_ready(), [pixels[:size] for size in sizes])
        alone = np.concatenate([found for found, _, _ in in_model_thread(server, list(pixels[:, None]))])
    slowest = max(first - 3 * second for _, first, second in calls)
    check.note("first call of a batch size: ms, slowest", 1000 * max(first for _, first, _ in calls))
    check.note("second call of a batch size: ms, slowest", 1000 * max(second for _, _, second in calls))
    check.at_most("first call of a batch size, ms above 3 x its second", 1000 * slowest, 2.0)
    difference = max(float(np.abs(found - alone[: len(found)]).max()) for found, _, _ in calls)
    check.at_most("probabilities in company against alone", difference, 1e-5)
    others = sum(not np.array_equal(found, alone[: len(found)]) for found, _, _ in calls)
    check.note("batch sizes with other bits than alone", f"{others} of {len(calls)}")


def in_model_thread(server: InProcess, batches: list[Pixels]) -> Calls:
    """Call the model twice for each batch, in the thread that was warmed up: plans of cuDNN belong to a thread."""
    batcher, found = server.ready.batcher, Calls()
    predict = batcher.predict

    def call_all(pixels: Pixels) -> NDArray[np.float32]:
        for batch in batches:
            started = time.perf_counter()
            first = predict(batch)
            between = time.perf_counter()
            predict(batch)
            found.append((first, between - started, time.perf_counter() - between))
        return predict(pixels)

    batcher.predict = call_all
    try:
        response = server.post(encoded_image(0), content_type="image/jpeg")
    finally:
        batcher.predict = predict
    assert response.status == 200, response.text
    return found
