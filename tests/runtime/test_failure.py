"""Every failure is reported once, in the failure file and on stderr."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ConfigError, DataError
from runtime.failure import FAILURE_BYTES, explain_os_error, guard, run, write_failure, write_message
from runtime.files import replacing

CODE = Path(__file__).parents[2] / "code"


@pytest.fixture(autouse=True)
def restore_signal_handlers() -> Iterator[None]:
    """Restore the handler of SIGTERM, which `guard` replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "output"))
    return tmp_path / "output" / "failure"


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def exit_code(command: Callable[[], Any], runner: Callable[[Callable[[], Any]], None] = guard) -> Any:
    with pytest.raises(SystemExit) as caught:
        runner(command)
    return caught.value.code


def test_a_command_that_succeeds_ends_with_zero_and_leaves_no_failure_file(failure: Path) -> None:
    assert exit_code(lambda: None, run) == 0
    guard(lambda: None)
    assert not failure.exists()


def test_a_mistake_of_the_user_is_one_sentence_without_traceback(
    failure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(ConfigError("--lr: 0 is out of range")), run) == 2
    assert capsys.readouterr().err == "ConfigError: --lr: 0 is out of range\n"
    assert failure.read_text() == "ConfigError: --lr: 0 is out of range"


def test_a_bug_names_its_place_first_and_keeps_the_traceback(failure: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(ZeroDivisionError("oh"))) == 1
    assert failure.read_text().startswith("ZeroDivisionError: oh (test_failure.py:")
    assert "Traceback" in failure.read_text()
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EROFS, "not allowed to write or read there"),
        (errno.EACCES, "not allowed to write or read there"),
        (errno.ENOTDIR, "a file is in the place of a folder"),
        (errno.EEXIST, "a file is in the place of a folder"),
        (errno.ELOOP, "links lead in a circle"),
        (errno.EIO, "the disk or the network file system failed (Input/output error)"),
        (errno.ESTALE, "the disk or the network file system failed (Stale file handle)"),
        (errno.ENOTCONN, "the disk or the network file system failed (Transport endpoint is not connected)"),
        (errno.EMFILE, "too many open files"),
        (errno.ENAMETOOLONG, "a name is longer than the file system allows"),
    ],
)
def test_an_error_of_the_machine_is_a_sentence_that_ends_with_the_path(
    failure: Path, capsys: pytest.CaptureFixture[str], number: int, sentence: str
) -> None:
    assert exit_code(raising(OSError(number, os.strerror(number), "/some/file"))) == 1
    text = failure.read_text()
    assert text.startswith(f"OSError: {sentence}")
    assert text.endswith(": /some/file")
    assert capsys.readouterr().err == f"{text}\n"


def test_a_rename_that_fails_names_the_new_path_not_the_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "output.csv").mkdir()
    with pytest.raises(IsADirectoryError) as caught, replacing(tmp_path / "output.csv") as file:
        file.write("x")
    assert str(explain_os_error(caught.value)).endswith(f": {tmp_path / 'output.csv'}")


def test_an_unexpected_os_error_keeps_its_traceback(failure: Path) -> None:
    assert explain_os_error(OSError(errno.ENOENT, "no such file")) is None
    assert exit_code(raising(FileNotFoundError(errno.ENOENT, "no such file", "x"))) == 1
    assert "Traceback" in failure.read_text()


def test_the_error_of_a_really_full_disk_is_explained() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)
    assert str(explain_os_error(caught.value)).startswith("no space left on the disk")


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_a_device_without_memory_is_a_sentence(failure: Path, kind: type[RuntimeError]) -> None:
    reason = "CUDA out of memory. Tried" if kind is torch.OutOfMemoryError else "CUDA error: out of memory"

    def command() -> None:
        raise kind(f"{reason}\nmore")

    with pytest.raises(SystemExit) as ended:
        guard(command)
    assert ended.value.code == 1
    assert failure.read_text().startswith(f"DeviceError: the device has no memory left ({reason}); lower")


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("CUDA error: an illegal memory access was encountered", "the GPU failed ({}); start the command again"),
        ("CUDA error: out of memory", "the device has no memory left ({}); lower --batch-size"),
    ],
)
def test_a_gpu_that_fails_is_a_sentence(
    failure: Path, capsys: pytest.CaptureFixture[str], reason: str, sentence: str
) -> None:
    assert exit_code(raising(torch.AcceleratorError(f"{reason}\nCUDA kernel errors might be reported later"))) == 1
    assert failure.read_text().startswith(f"DeviceError: {sentence.format(reason)}")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_failure_file_of_an_earlier_run_is_removed_at_the_start(failure: Path) -> None:
    def command() -> None:
        raise ConfigError("again")

    write_failure("long ago")
    guard(lambda: None)
    assert not failure.exists()
    write_failure("long ago")
    with pytest.raises(SystemExit):
        guard(command)
    assert failure.read_text() == "ConfigError: again"


def test_ctrl_c_ends_with_the_exit_code_that_shells_expect(failure: Path) -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 128 + signal.SIGINT
    assert not failure.exists()


@given(st.text(alphabet=st.characters(), max_size=1500))
def test_the_failure_file_is_at_most_1024_bytes_of_valid_text(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("output")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM_OUTPUT_DIR", str(folder))
        write_failure(text)
    data = (folder / "failure").read_bytes()
    assert len(data) <= FAILURE_BYTES
    assert text.encode(errors="replace").decode().startswith(data.decode())
    assert len(data) > FAILURE_BYTES - 4 or data.decode() == text.encode(errors="replace").decode()


def test_a_processing_job_has_the_cause_in_its_message_file(
    failure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_MESSAGE_FILE", str(tmp_path / "message"))
    write_failure("the cause")
    assert failure.read_text() == (tmp_path / "message").read_text() == "the cause"


def test_the_message_of_a_processing_job_has_at_most_1024_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_MESSAGE_FILE", str(tmp_path / "message"))
    write_message("\N{SNOWMAN}" * 1000)
    assert (tmp_path / "message").read_text() == "\N{SNOWMAN}" * (FAILURE_BYTES // 3)
    monkeypatch.delenv("SM_MESSAGE_FILE")
    write_message("nobody asked")
    assert [path.name for path in tmp_path.iterdir()] == ["message"]


def test_the_first_failure_is_kept(failure: Path) -> None:
    write_failure("the cause")
    write_failure("a consequence")
    assert failure.read_text() == "the cause"


def test_without_sagemaker_no_failure_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SM_OUTPUT_DIR", raising=False)
    monkeypatch.delenv("SM_MESSAGE_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    write_failure("nobody asked")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_does_not_hide_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "file"))
    assert exit_code(raising(DataError("the cause"))) == 1
    assert capsys.readouterr().err == "DataError: the cause\n"


@pytest.mark.parametrize(
    ("stream", "cause"), [("stderr", "DataError: the cause"), ("stdout", "OSError: no space left")]
)
def test_a_full_disk_behind_the_log_does_not_hide_the_cause(failure: Path, stream: str, cause: str) -> None:
    command = "raise_error" if stream == "stderr" else "print_result"
    program = f"""
from runtime.failure import run
from runtime.errors import DataError
def raise_error():
    raise DataError("the cause")
def print_result():
    print("the result")
run({command})
"""
    with Path("/dev/full").open("w") as full:
        streams: dict[str, Any] = {stream: full}
        ended = subprocess.run([sys.executable, "-c", program], cwd=CODE, check=False, **streams)
    assert ended.returncode != 0
    assert failure.read_text().startswith(cause)


@pytest.mark.parametrize("command", ["train", "inference"])
def test_an_error_while_torch_is_imported_is_in_the_failure_file(failure: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudnn.so.9: cannot open shared object file')")
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    line = [sys.executable, str(CODE / f"{command}.py")]
    ended = subprocess.run(line, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert failure.read_text().startswith("ImportError: libcudnn.so.9: cannot open shared object file (torch.py:1)\n")
    assert ended.stderr.count("Traceback") == 1
