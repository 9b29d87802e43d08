"""Files that are not what their names say: pipes, devices, sockets, sparse files, folders, links to them."""

import os
import socket
from pathlib import Path

KINDS = ("pipe", "socket", "device", "link to a pipe", "sparse")
SPARSE_BYTES = 20 << 30


def make_strange(path: Path, kind: str) -> Path:
    """Create a file of one of `KINDS` in the place of `path`."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        folder = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path of a socket has at most 107 bytes
        os.close(folder)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name(f"{path.name}.pipe"))
        path.symlink_to(path.with_name(f"{path.name}.pipe"))
    else:
        with path.open("wb") as file:
            file.truncate(SPARSE_BYTES)
    return path
