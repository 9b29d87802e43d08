"""The servers that bench_serve.py compares: one row each, how it is started, and what it costs."""

import base64
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.serve_load import Load, drawn_images, first_response, free_ports, measure, request, wait
from support.processes import descendants

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A server: its name in the table, and its script, or engine and number format of container/serve.py."""

    name: str
    engine: str = ""
    precision: str = "fp32"
    script: str = ""

    def command(self, model_dir: Path, port: int) -> list[str]:
        if self.script:
            return [sys.executable, str(BENCHMARKS / self.script), str(model_dir), str(port)]
        return [sys.executable, str(ROOT / "container" / "serve.py")]

    def environ(self, model_dir: Path, port: int) -> dict[str, str]:
        path = [str(ROOT / name) for name in ("code", "container", "tests")]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "SM_MODEL_DIR": str(model_dir),
            "SERVE_HOST": "127.0.0.1",
            "SERVE_DEVICE": "cpu",
            "SERVE_ENGINE": self.engine,
            "SERVE_PRECISION": self.precision,
            "SAGEMAKER_BIND_TO_PORT": str(port),
        }

    def bodies(self) -> list[tuple[bytes, str]]:
        """Return bodies and their media type; LitServe takes no raw bodies, so its images travel as base64."""
        if self.script != LITSERVE:
            return [(body, "image/jpeg") for body in drawn_images()]
        packed = [json.dumps({"image": base64.b64encode(body).decode()}).encode() for body in drawn_images()]
        return [(body, "application/json") for body in packed]


PLAIN, LITSERVE = "plain_leg.py", "litserve_leg.py"
ROWS = {
    "plain": Row("usual handler (starlette's thread pool, torchvision's transforms)", script=PLAIN),
    "torch": Row("this server, torch, fp32", "torch"),
    "openvino": Row("this server, OpenVINO, fp32", "openvino"),
    "onnxruntime": Row("this server, onnxruntime, fp32", "onnxruntime"),
    "torch16": Row("this server, torch, bf16", "torch", "bf16"),
    "openvino16": Row("this server, OpenVINO, bf16", "openvino", "bf16"),
    "litserve": Row("LitServe, torch, batches of 32, fp32", script=LITSERVE),
}


@dataclass(frozen=True)
class Found:
    """What a row cost in one round; a ceiling of 0 was not measured."""

    crowd: Load
    alone: Load
    start: float  # seconds from the start of the process to its first response
    cpu: float  # seconds of all its processes for each request of the crowd
    ceiling: float  # images per second without HTTP


def available_rows() -> list[str]:
    """Return the names of the rows that can be measured here: LitServe has to be installed."""
    return [name for name in ROWS if name != "litserve" or find_spec("litserve")]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of all that it started."""
    total = 0
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):  # it has ended
            total += sum(map(int, Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def started(row: Row, model_dir: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server as a process of its own, once it is ready."""
    with subprocess.Popen(
        row.command(model_dir, port),
        env=row.environ(model_dir, port),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait(port, process, 0.01)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def run_row(row: Row, model_dir: Path, clients: int, seconds: float) -> Found:
    """Start a server, measure it, and stop it."""
    bodies = row.bodies()
    requests = [request(body, media_type) for body, media_type in bodies]
    (port,) = free_ports(1)
    began = time.monotonic()
    with started(row, model_dir, port) as process:
        first_response(port, *bodies[0])
        start = time.monotonic() - began
        measure(port, requests, clients, 1)
        before = cpu_seconds(process.pid)
        crowd = measure(port, requests, clients, seconds)
        cpu = (cpu_seconds(process.pid) - before) / crowd.requests
        alone = measure(port, requests, 1, seconds / 2)
    return Found(crowd, alone, start, cpu, run_ceiling(row, model_dir, seconds) if row.engine else 0.0)


def run_ceiling(row: Row, model_dir: Path, seconds: float) -> float:
    """Return the images per second of decoding and engine without HTTP, in a process of its own."""
    line = [sys.executable, str(BENCHMARKS / "ceiling_leg.py"), str(model_dir), str(seconds)]
    done = subprocess.run(line, env=row.environ(model_dir, 0), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def median_of(rounds: list[Found]) -> Found:
    """Return the median of each number over the rounds."""

    def load(loads: list[Load]) -> Load:
        per_second, median, p99 = (
            statistics.median(getattr(each, name) for each in loads) for name in ("per_second", "median", "p99")
        )
        return Load(per_second, median, p99, sum(each.requests for each in loads))

    start, cpu, ceiling = (
        statistics.median(getattr(each, name) for each in rounds) for name in ("start", "cpu", "ceiling")
    )
    return Found(load([each.crowd for each in rounds]), load([each.alone for each in rounds]), start, cpu, ceiling)
