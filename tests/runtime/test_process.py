"""Signals, and the CPUs and memory of the container."""

import getpass
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runtime import process
from runtime.process import cpu_count, free_memory_bytes, name_unknown_user

CODE = Path(__file__).parents[2] / "code"

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
def test_the_number_of_cpus_is_limited_by_the_container(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(process, "_read", lambda path: files.get(path.removeprefix(CGROUP), ""))
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
def test_free_memory_is_limited_by_the_container(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int
) -> None:
    meminfo = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 2000 kB\nHugePages_Total: 0\n"}
    monkeypatch.setattr(process, "_read", lambda path: meminfo.get(path) or files.get(path.removeprefix(CGROUP), ""))
    assert free_memory_bytes() == free


def test_on_this_machine_there_is_a_cpu_and_some_memory() -> None:
    assert 1 <= cpu_count() <= len(os.sched_getaffinity(0))
    assert free_memory_bytes() > 0


def test_free_memory_has_a_default_where_the_kernel_reports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_read", lambda path: "")
    assert free_memory_bytes() == 1 << 30


@pytest.mark.parametrize("command", ["train", "inference"])
def test_spinning_is_limited_before_torch_is_imported(tmp_path: Path, command: str) -> None:
    (tmp_path / "torch.py").write_text("import os; print(os.environ['GOMP_SPINCOUNT'], flush=True); os._exit(0)")
    line = [sys.executable, str(CODE / f"{command}.py")]
    for environ, count in (({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environ = os.environ | {"PYTHONPATH": str(tmp_path)} | environ
        ended = subprocess.run(line, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ended.stdout == f"{count}\n", ended.stderr


def test_a_user_without_a_name_gets_one_and_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError, as for a number in no /etc/passwd
    name_unknown_user()
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home() == Path(tempfile.gettempdir())


def test_what_a_user_has_set_or_passwd_knows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.delenv("USER", raising=False)
    before = dict(os.environ)
    name_unknown_user()
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    name_unknown_user()
    assert dict(os.environ) == before


def test_a_command_that_does_not_listen_ends_at_sigterm() -> None:
    program = """
import os, signal
from runtime.failure import run
run(lambda: (os.kill(os.getpid(), signal.SIGTERM), print("still here")))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=CODE, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_requests_a_stop_and_a_second_one_ends_the_process(number: signal.Signals) -> None:
    program = """
import os, signal, sys
from runtime.process import StopRequest
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
