"""Decoders for pools in tests; the pool is given the name of one."""

import ctypes
import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data.images import Pixels, Preparation, prepare

Admit = Callable[[Image.Image], None] | None


def decode(data: bytes, preparation: Preparation, name: str, admit: Admit = None) -> Pixels:
    """Do what the content of a file says: burn, sleep, crash, ... Anything else is decoded as usual."""
    match data:
        case b"burn":  # CPU time, in C code that holds the interpreter lock
            pow(7, 1 << 40)
        case b"sleep":
            time.sleep(1000)
        case b"crash":
            ctypes.string_at(0)
        case b"abort":
            os.abort()
        case b"exit":
            os._exit(3)
        case b"leave":  # as if no image were left
            os._exit(0)
        case b"bug":
            raise RuntimeError("a bug")
        case b"memory":
            np.ones(1 << 31, np.uint8)
        case b"kill":  # as the kernel does without memory
            end = time.process_time() + 0.15
            while time.process_time() < end:
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        case b"pause":  # the first worker is killed in the middle, the second is not
            if not Path(f"{name}.second").exists():
                Path(f"{name}.second").touch()
                time.sleep(1000)
            return np.full((*preparation.size, 3), 7, np.uint8)
    return prepare(data, preparation, name, admit)


def decode_behind_gate(data: bytes, preparation: Preparation, name: str, admit: Admit = None) -> Pixels:
    """Note the image in a log, and wait, without CPU time, until somebody writes into the pipe that GATE names."""
    gate = Path(os.environ["GATE"])
    with gate.with_name("log").open("a") as log:
        log.write(".")
    gate.open("rb").close()
    return prepare(data, preparation, name, admit)


def admit_only(data: bytes, preparation: Preparation, name: str, admit: Admit = None) -> Pixels:
    """Read the header of an image, and return black pixels."""
    with Image.open(io.BytesIO(data)) as image:
        if admit:
            admit(image)
    return np.zeros((*preparation.size, 3), np.uint8)


def decode_slowly(data: bytes, preparation: Preparation, name: str, admit: Admit = None) -> Pixels:
    """Sleep first, as many seconds as SLEEP says."""
    time.sleep(float(os.environ["SLEEP"]))
    return prepare(data, preparation, name, admit)


def decode_after_gate(data: bytes, preparation: Preparation, name: str) -> Pixels:
    """Wait for the file that GATED names first before the images that it names after it; note each image in a log."""
    gate, *gated = os.environ["GATED"].split(":")
    with Path(gate).with_suffix(".log").open("a") as log:
        log.write(f"{name}\n")
    end = time.monotonic() + 50
    while any(name.endswith(path) for path in gated) and not Path(gate).exists():
        assert time.monotonic() < end, "nobody opens the gate"
        time.sleep(0.01)
    return prepare(data, preparation, name)


def decode_unless_costly(data: bytes, preparation: Preparation, name: str) -> Pixels:
    """Run out of memory with the images whose paths end as COSTLY says."""
    if name.endswith(os.environ["COSTLY"]):
        raise MemoryError
    return prepare(data, preparation, name)
