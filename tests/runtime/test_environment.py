"""Whatever goes wrong is said once, in the failure file and on stderr; files are whole or absent."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import environment
from environment import (
    FAILURE_BYTES,
    check_writable,
    cpu_count,
    existing_folder,
    explain_os_error,
    free_memory_bytes,
    guard,
    replacing,
    run,
    write_failure,
    write_message,
)
from errors import ConfigError, DataError

CODE = Path(__file__).parents[1] / "code"


@pytest.fixture(autouse=True)
def restore_signal_handlers() -> Iterator[None]:
    """`guard` answers SIGTERM for its process; the process of the tests keeps its own answer."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "output"))
    return tmp_path / "output" / "failure"


def raising(error: BaseException) -> Callable[[], None]:
    def verb() -> None:
        raise error

    return verb


def exit_code(verb: Callable[[], Any], runner: Callable[[Callable[[], Any]], None] = guard) -> Any:
    with pytest.raises(SystemExit) as caught:
        runner(verb)
    return caught.value.code


def test_a_verb_that_succeeds_ends_with_zero_and_leaves_no_failure_file(failure: Path) -> None:
    assert exit_code(lambda: None, run) == 0
    guard(lambda: None)
    assert not failure.exists()


def test_a_mistake_of_the_user_is_one_sentence_without_traceback(
    failure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(ConfigError("--lr: 0 is out of range")), run) == 2
    assert capsys.readouterr().err == "ConfigError: --lr: 0 is out of range\n"
    assert failure.read_text() == "ConfigError: --lr: 0 is out of range"


def test_a_bug_of_ours_names_its_place_first_and_keeps_the_traceback(
    failure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(ZeroDivisionError("oh"))) == 1
    assert failure.read_text().startswith("ZeroDivisionError: oh (test_environment.py:")
    assert "Traceback" in failure.read_text()
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EROFS, "not allowed to write or read there"),
        (errno.EACCES, "not allowed to write or read there"),
        (errno.ENOTDIR, "a file is where a folder is needed"),
        (errno.EEXIST, "a file is where a folder is needed"),
        (errno.EMFILE, "too many open files"),
        (errno.ENAMETOOLONG, "a name is longer than the file system allows"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence_that_ends_with_the_path(
    failure: Path, capsys: pytest.CaptureFixture[str], number: int, sentence: str
) -> None:
    assert exit_code(raising(OSError(number, os.strerror(number), "/some/file"))) == 1
    text = failure.read_text()
    assert text.startswith(f"OSError: {sentence}")
    assert text.endswith(": /some/file")
    assert capsys.readouterr().err == f"{text}\n"


def test_an_unexpected_os_error_keeps_its_traceback(failure: Path) -> None:
    assert explain_os_error(OSError(errno.ENOENT, "no such file")) is None
    assert exit_code(raising(FileNotFoundError(errno.ENOENT, "no such file", "x"))) == 1
    assert "Traceback" in failure.read_text()


def test_a_full_disk_met_for_real_is_explained() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)
    assert str(explain_os_error(caught.value)).startswith("no space left on the disk")


def test_a_device_without_memory_is_a_sentence(failure: Path) -> None:
    def verb() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    with pytest.raises(SystemExit) as ended:
        guard(verb)
    assert ended.value.code == 1
    sentence = "DeviceError: the device has no memory left (CUDA out of memory. Tried to allocate 2 GiB.); lower"
    assert failure.read_text().startswith(sentence)


def test_the_failure_of_a_run_before_is_gone_when_the_next_one_begins(failure: Path) -> None:
    def verb() -> None:
        raise ConfigError("again")

    write_failure("long ago")
    guard(lambda: None)
    assert not failure.exists()
    write_failure("long ago")
    with pytest.raises(SystemExit):
        guard(verb)
    assert failure.read_text() == "ConfigError: again"


def test_ctrl_c_ends_as_shells_expect(failure: Path) -> None:
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


def test_a_processing_job_finds_the_cause_in_its_message_file_too(
    failure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_MESSAGE_FILE", str(tmp_path / "message"))
    write_failure("the cause")
    assert failure.read_text() == (tmp_path / "message").read_text() == "the cause"


def test_a_processing_job_is_told_what_came_out_in_at_most_1024_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_MESSAGE_FILE", str(tmp_path / "message"))
    write_message("\N{SNOWMAN}" * 1000)
    assert (tmp_path / "message").read_text() == "\N{SNOWMAN}" * (FAILURE_BYTES // 3)
    monkeypatch.delenv("SM_MESSAGE_FILE")
    write_message("nobody asked")
    assert [path.name for path in tmp_path.iterdir()] == ["message"]


def test_the_first_to_fail_is_the_one_that_is_read(failure: Path) -> None:
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
    verb = "raise_error" if stream == "stderr" else "print_result"
    program = f"""
from environment import run
from errors import DataError
def raise_error():
    raise DataError("the cause")
def print_result():
    print("the result")
run({verb})
"""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", program], cwd=CODE, **{stream: full}, check=False)
    assert ended.returncode != 0
    assert failure.read_text().startswith(cause)


def test_a_missing_folder_a_file_and_an_empty_folder_are_three_sentences(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    found = existing_folder(tmp_path, "SM_CHANNEL_TRAIN", "pictures")
    assert found == tmp_path
    for name, sentence in {
        "absent": "SM_CHANNEL_TRAIN does not exist, expected pictures",
        "file": "SM_CHANNEL_TRAIN is a file, expected a folder with pictures",
        "empty": "SM_CHANNEL_TRAIN is empty, expected pictures",
    }.items():
        with pytest.raises(DataError, match=f"^{sentence}: {tmp_path / name}$"):
            existing_folder(tmp_path / name, "SM_CHANNEL_TRAIN", "pictures")


@pytest.mark.parametrize(("mode", "content"), [("w", "a\r\nb\n\N{SNOWMAN}"), ("wb", b"\x00\r\n")])
def test_a_file_is_replaced_whole_and_everybody_may_read_it(tmp_path: Path, mode: str, content: str | bytes) -> None:
    path = tmp_path / "new" / "model.json"
    for _ in range(2):
        with replacing(path, mode) as file:
            file.write(content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["model.json"]


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def write(file: IO[str]) -> None:
        file.write("half of the ne")
        raise error

    with pytest.raises(type(error)), replacing(path) as file:
        write(file)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]


def test_a_disk_that_fills_up_at_the_last_moment_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught, replacing(path) as file:
        file.write("new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]


def test_a_folder_that_cannot_be_written_is_found_out_before_and_nothing_is_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "newer")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file")


CGROUP = "/sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_as_many_cpus_are_used_as_the_container_may(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(environment, "_read", lambda path: files.get(path.removeprefix(CGROUP), ""))
    assert cpu_count() == cpus


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 2000 * 1024),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 2000 * 1024),
        ({"memory.max": "1000\n", "memory.current": "400\n"}, 600),
        ({"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 1\ninactive_file 500\n"}, 600),
        ({"memory.max": "1000\n", "memory.current": "1200\n"}, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n"}, 2000 * 1024),
        ({"memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "400\n"}, 600),
    ],
)
def test_as_much_memory_is_used_as_the_container_may(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int
) -> None:
    meminfo = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 2000 kB\nHugePages_Total: 0\n"}
    monkeypatch.setattr(
        environment, "_read", lambda path: meminfo.get(path) or files.get(path.removeprefix(CGROUP), "")
    )
    assert free_memory_bytes() == free


def test_on_this_machine_there_is_a_cpu_and_some_memory() -> None:
    assert 1 <= cpu_count() <= len(os.sched_getaffinity(0))
    assert free_memory_bytes() > 0


def test_memory_is_guessed_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_read", lambda path: "")
    assert free_memory_bytes() == 1 << 30


@pytest.mark.parametrize("verb", ["train", "inference"])
def test_torch_is_told_to_spin_less_before_it_is_loaded(tmp_path: Path, verb: str) -> None:
    (tmp_path / "torch.py").write_text("import os; print(os.environ['GOMP_SPINCOUNT'], flush=True); os._exit(0)")
    command = [sys.executable, CODE / f"{verb}.py"]
    for environ, count in (({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environ = os.environ | {"PYTHONPATH": str(tmp_path)} | environ
        ended = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ended.stdout == f"{count}\n", ended.stderr


def test_a_verb_that_does_not_listen_ends_at_sigterm() -> None:
    program = """
import os, signal
from environment import run
run(lambda: (os.kill(os.getpid(), signal.SIGTERM), print("still here")))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=CODE, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_asks_for_an_end_and_a_second_one_forces_it(number: signal.Signals) -> None:
    program = """
import os, signal, sys
from environment import StopRequest
stop = StopRequest()
stop.listen()
assert not stop.requested
os.kill(os.getpid(), int(sys.argv[1]))
print(stop.requested, flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
print("still here", flush=True)
"""
    command = [sys.executable, "-c", program, str(int(number))]
    ended = subprocess.run(command, cwd=CODE, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + number
    assert ended.stdout == "True\n"
    assert ended.stderr == ""
