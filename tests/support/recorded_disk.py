"""Intercepts the file operations of Python code in a folder, and derives what a power cut may leave of them.

`intercepted` calls back before, within and after each operation, so that a test can end the process there; `record`
returns the operations, from which `after_power_cut` derives every state that the disk may be in when the power fails.
"""

import io
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Operation:
    """kind is mkdir, create, write, sync, chmod, rename, sync_folder or unlink; names are relative to the folder."""

    kind: str
    name: str
    target: str = ""
    data: bytes = b""


@contextmanager
def intercepted(folder: Path, moment: Callable[[Operation, str], None]) -> Iterator[None]:
    """Call `moment(operation, "before" | "half" | "after")` around each operation below `folder`."""
    real = {name: getattr(os, name) for name in ("open", "fdopen", "fsync", "replace", "unlink", "chmod", "mkdir")}
    opened: dict[int, str] = {}

    def name_of(path: Any) -> str | None:
        path = Path(path)
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else None

    def around(operation: Operation, work: Callable[[], Any]) -> Any:
        moment(operation, "before")
        result = work()
        moment(operation, "after")
        return result

    def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        name = name_of(path) if isinstance(path, str | Path) else None
        if name is None:
            return int(real["open"](path, flags, *rest, **named))
        if flags & os.O_CREAT:
            descriptor = around(Operation("create", name), lambda: real["open"](path, flags, *rest, **named))
        else:
            descriptor = real["open"](path, flags, *rest, **named)
        opened[descriptor] = name
        return int(descriptor)

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            block, name = bytes(data), opened[self.fileno()]
            moment(Operation("write", name, data=block), "before")
            written = super().write(block[: len(block) // 2])
            moment(Operation("write", name, data=block), "half")
            written += super().write(block[written:])
            moment(Operation("write", name, data=block), "after")
            return written

    def fdopen(descriptor: int, mode: str, *rest: Any, **named: Any) -> Any:
        if descriptor not in opened or "w" not in mode:
            return real["fdopen"](descriptor, mode, *rest, **named)
        buffered = io.BufferedWriter(Raw(descriptor, "w"))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **named)

    def fsync(descriptor: int) -> None:
        name = opened.get(descriptor)
        if name is None:
            real["fsync"](descriptor)
            return
        kind = "sync_folder" if (folder / name).is_dir() else "sync"
        around(Operation(kind, name), lambda: real["fsync"](descriptor))

    def replace(source: Any, target: Any) -> None:
        around(Operation("rename", str(name_of(source)), str(name_of(target))), lambda: real["replace"](source, target))

    def simple(kind: str, function: str) -> Callable[..., Any]:
        def shim(path: Any, *rest: Any, **named: Any) -> Any:
            if (name := name_of(path)) is None:
                return real[function](path, *rest, **named)
            return around(Operation(kind, name), lambda: real[function](path, *rest, **named))

        return shim

    with mock.patch.multiple(
        os,
        open=open_,
        fdopen=fdopen,
        fsync=fsync,
        replace=replace,
        unlink=simple("unlink", "unlink"),
        chmod=simple("chmod", "chmod"),
        mkdir=simple("mkdir", "mkdir"),
    ):
        yield


def record(folder: Path, work: Callable[[], object]) -> list[Operation]:
    """Return the operations of `work` below `folder`, in order."""
    operations: list[Operation] = []

    def keep(operation: Operation, moment: str) -> None:
        if moment == "after":
            operations.append(operation)

    with intercepted(folder, keep):
        work()
    return operations


@dataclass
class _File:
    """The content of a file, and what of it is synced."""

    written: bytes = b""
    synced: bytes = b""

    def contents(self) -> set[bytes]:
        """Return what the disk may hold: what was synced, everything that was written, or a part of the rest."""
        middle = (len(self.synced) + len(self.written)) // 2
        return {self.synced, self.written, self.written[:middle], self.synced + bytes(len(self.written) - middle)}


def after_power_cut(before: dict[str, bytes], operations: list[Operation]) -> Iterator[dict[str, bytes]]:
    """Yield every folder (name -> content) that may exist after these operations on a folder that held `before`.

    Only what POSIX guarantees counts: content is durable once its file is synced, a name once its folder is; of the
    rest, any part may be there.
    """
    durable = {name: _File(content, content) for name, content in before.items()}
    names = dict(durable)
    unsure: list[tuple[str, _File | None]] = []  # a name, and its file afterwards; None if it is removed
    for operation in operations:
        match operation.kind:
            case "create":
                names[operation.name] = _File()
                unsure.append((operation.name, names[operation.name]))
            case "write":
                names[operation.name].written += operation.data
            case "sync":
                names[operation.name].synced = names[operation.name].written
            case "rename":
                file = names[operation.target] = names.pop(operation.name)
                unsure += [(operation.name, None), (operation.target, file)]
            case "unlink":
                del names[operation.name]
                unsure.append((operation.name, None))
            case "sync_folder":
                durable, unsure = dict(names), []
            case other:
                assert other in ("chmod", "mkdir"), other
    for survived in itertools.product((False, True), repeat=len(unsure)):
        left: dict[str, _File] = dict(durable)
        for (name, found), is_durable in zip(unsure, survived, strict=True):
            if is_durable and found is not None:
                left[name] = found
            elif is_durable:
                left.pop(name, None)
        contents = [sorted(file.contents()) for file in left.values()]
        for chosen in itertools.product(*contents):
            yield dict(zip(left, chosen, strict=True))
