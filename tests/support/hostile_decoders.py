"""A decoder that does what the content of a file says: burn, sleep, crash, ... Anything else is decoded as usual."""

import ctypes
import os
import signal
import time

import numpy as np

from data.images import Pixels, Preparation, prepare


def decode(data: bytes, preparation: Preparation, name: str) -> Pixels:
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
            if not os.path.exists(f"{name}.second"):  # noqa: PTH110
                open(f"{name}.second", "w").close()  # noqa: PTH123
                time.sleep(1000)
            return np.full((*preparation.size, 3), 7, np.uint8)
    return prepare(data, preparation, name)
