"""Decoding and an engine in one process without HTTP: the ceilings of bench_serve.py.

SERVE_ENGINE=torch SERVE_PRECISION=fp32 python tests/benchmarks/ceiling_leg.py MODEL SECONDS
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.serve_load import drawn_images
from data.images import prepare
from server.classifier import Classifier
from server.settings import ServeConfig

BATCHES = (16, 32, 64)


def main(model_dir: Path, seconds: float) -> None:
    """Print images per second: all threads prepare a batch during the model call before it, or after it."""
    engine, precision = os.environ["SERVE_ENGINE"], os.environ["SERVE_PRECISION"]
    ready = Classifier(ServeConfig(model_dir=model_dir, device="cpu", engine=engine, precision=precision))
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
