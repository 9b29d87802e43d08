"""Workers are started, stopped and ended together, and every host says the same about why."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support.processes import Process, is_running, wait_until
from support.worker_launching import PYTHONPATH, SCRIPT, Launcher, launching
from training import workers_main

KILLED = "TrainingError: worker 1 was killed (SIGKILL), which the kernel does when the memory of the host is used up; "
TWO_HOSTS = ("127.0.0.1", "localhost")  # names of this machine, in the order that all hosts agree on


def hosts_of(port: int, current: str) -> dict[str, str]:
    """Return the variables of one of two hosts; the list is in another order than the launchers agree on."""
    return {"SM_HOSTS": json.dumps(TWO_HOSTS[::-1]), "SM_CURRENT_HOST": current, "MASTER_PORT": str(port)}


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def two_hosts(tmp_path: Path, port: int) -> Callable[..., tuple[Launcher, Launcher]]:
    """Start the launchers of two hosts with one worker each."""

    def start(what: str, workers: tuple[int, int] = (1, 1)) -> tuple[Launcher, Launcher]:
        first, second = (
            Launcher(tmp_path, what, count, **hosts_of(port, host))
            for host, count in zip(TWO_HOSTS, workers, strict=True)
        )
        return first, second

    return start


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SM_") or "SOCKET" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(workers_main, "launch", lambda command, hosts, workers: workers)


# one process, one host


@pytest.mark.usefixtures("no_workers")
def test_one_worker_is_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    workers_main.start_workers(["train"], 0, "cpu")
    workers_main.start_workers(["train"], 1, "cuda")


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("asked", "gpus", "device", "workers"), [(0, 4, "auto", 4), (2, 4, "cuda", 2), (3, 4, "cpu", 3)]
)
def test_every_gpu_gets_a_worker_unless_a_number_is_given(
    monkeypatch: pytest.MonkeyPatch, asked: int, gpus: int, device: str, workers: int
) -> None:
    monkeypatch.setattr(workers_main, "_may_have_several_gpus", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(SystemExit) as ended:
        workers_main.start_workers(["train"], asked, device)
    assert ended.value.code == workers


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(("groups", "address"), [("1", "nowhere.invalid"), ("2", "10.0.0.1")])
def test_a_worker_of_torchrun_starts_nothing_and_gets_an_interface(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], groups: str, address: str
) -> None:
    monkeypatch.setattr(workers_main, "interface_towards", {"10.0.0.1": "eth1"}.get)
    for name, value in {"RANK": "0", "GROUP_WORLD_SIZE": groups, "MASTER_ADDR": address}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")  # restored afterwards
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    workers_main.start_workers(["train"], 2, "cpu")
    assert os.environ["GLOO_SOCKET_IFNAME"] == {"1": "lo", "2": "eth1"}[groups]
    assert "torchrun ends workers 30 seconds after SIGTERM" in capsys.readouterr().err


def test_the_exit_code_is_zero_if_that_of_every_worker_is(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "ends")
    with launching(launcher):
        assert launcher.join() == 0, launcher.log.read_text()
    assert launcher.log.read_text() == "2 workers on this host\n"
    assert not launcher.failure
    environ = json.loads((tmp_path / "environ-1").read_text())
    assert environ == {
        **{"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        **{"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"},
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_stops_every_worker_in_order(tmp_path: Path, number: signal.Signals) -> None:
    launcher = Launcher(tmp_path, "")
    with launching(launcher):
        launcher.wait_for_steps()
        os.kill(launcher.pid, number)
        assert launcher.join() == 0
    assert launcher.saved() == {0, 1}
    assert not launcher.failure


def test_a_signal_to_one_worker_stops_all_in_order(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "gets the signal alone")
    with launching(launcher):
        assert launcher.join() == 0
    assert launcher.saved() == {0, 1}


def test_a_signal_before_there_is_anything_to_save_ends_all_at_once(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "is not ready for a signal")
    with launching(launcher):
        launcher.wait_for_steps()
        os.kill(launcher.pid, signal.SIGTERM)
        assert launcher.join() == 128 + signal.SIGTERM
    assert not launcher.failure


def test_workers_that_do_not_stop_are_killed_before_sagemaker_kills_the_container(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "does not stop", PATIENCE="1")
    with launching(launcher):
        launcher.wait_for_steps()
        os.kill(launcher.pid, signal.SIGTERM)
        assert launcher.join() == 1
    assert launcher.failure == "TrainingError: worker 0, worker 1 did not save within 1 seconds of the signal to stop"


def test_a_killed_worker_is_named_and_the_others_end(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "is killed")
    with launching(launcher):
        assert launcher.join() == 1
    assert launcher.failure.startswith(KILLED)
    assert launcher.failure in launcher.log.read_text()


def test_a_worker_that_does_not_notice_the_end_of_another_is_killed(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "kills one that hangs", PATIENCE="1")
    with launching(launcher):
        assert launcher.join() == 1
    assert launcher.failure.startswith(KILLED)
    assert not any(map(is_running, launcher.workers().values()))


@pytest.mark.parametrize("what", ["fails", "fails before the first step"])
def test_the_sentence_of_the_worker_that_failed_is_the_reason(tmp_path: Path, what: str) -> None:
    launcher = Launcher(tmp_path, what, PATIENCE="1")
    (launcher.output / "failure").write_text("DataError: of an earlier run")
    with launching(launcher):
        assert launcher.join() == 1
    assert launcher.failure == "DataError: the image cannot be used: x.jpg"
    assert launcher.log.read_text().count(launcher.failure) == 1


def test_a_worker_that_fails_without_a_message_is_named(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, "fails without a message")
    with launching(launcher):
        assert launcher.join() == 1
    assert launcher.failure == "TrainingError: worker 1 ended with exit code 3 and no message; see its log"


def test_workers_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-W", "error", str(SCRIPT), "2", str(tmp_path), ""]
    with Process(command, env=environ, start_new_session=True) as process:
        wait_until(lambda: len(list(tmp_path.glob("[01]"))) == 2)
        workers = [int(path.read_text().split()[1]) for path in tmp_path.glob("[01]")]
        os.killpg(process.pid, signal.SIGKILL)  # the process group, of which the workers are no part
    wait_until(lambda: not any(map(is_running, workers)), 10)


# several hosts


def test_hosts_train_together_and_each_ends_with_zero(
    tmp_path: Path, two_hosts: Callable[..., tuple[Launcher, Launcher]]
) -> None:
    first, second = two_hosts("ends", (2, 2))
    with launching(first, second):
        assert [first.join(), second.join()] == [0, 0], first.log.read_text() + second.log.read_text()
    environs = [json.loads((tmp_path / f"environ-{rank}").read_text()) for rank in range(4)]
    assert [(each["LOCAL_RANK"], each["GROUP_RANK"], each["WORLD_SIZE"]) for each in environs] == [
        *(("0", "0", "4"), ("1", "0", "4")),
        *(("0", "1", "4"), ("1", "1", "4")),
    ]
    assert "2 workers on each of 2 hosts: 127.0.0.1, localhost; network interface lo" in first.log.read_text()


def test_a_signal_to_one_host_stops_all_in_order(two_hosts: Callable[..., tuple[Launcher, Launcher]]) -> None:
    first, second = two_hosts("")
    with launching(first, second):
        first.wait_for_steps()
        os.kill(second.pid, signal.SIGTERM)
        assert [first.join(), second.join()] == [0, 0]
    assert first.saved() == {0, 1}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("is killed", "TrainingError: worker 1 of localhost was killed (SIGKILL)"),
        ("fails", "DataError: the image cannot be used: x.jpg"),
    ],
)
def test_every_host_has_the_same_sentence_in_its_failure_file(
    two_hosts: Callable[..., tuple[Launcher, Launcher]], what: str, sentence: str
) -> None:
    first, second = two_hosts(what)
    with launching(first, second):
        assert [first.join(), second.join()] == [1, 1]
    assert first.failure.startswith(sentence)
    assert first.failure == second.failure
    assert first.failure in first.log.read_text()


@pytest.mark.parametrize("gone", [0, 1])
def test_a_host_that_is_killed_is_named(two_hosts: Callable[..., tuple[Launcher, Launcher]], gone: int) -> None:
    hosts = two_hosts("")
    left = hosts[1 - gone]
    with launching(*hosts):
        left.wait_for_steps()
        os.kill(hosts[gone].pid, signal.SIGKILL)
        assert left.join() == 1
    assert left.failure.startswith(f"TrainingError: host {TWO_HOSTS[gone]} is gone: ")


def test_hosts_with_another_number_of_workers_are_rejected(
    two_hosts: Callable[..., tuple[Launcher, Launcher]],
) -> None:
    hosts = two_hosts("ends", (2, 1))
    with launching(*hosts):
        assert [host.join() for host in hosts] == [1, 1]
    assert {host.failure for host in hosts} == {
        "TrainingError: 127.0.0.1 is to start 2 workers and localhost 1; every host needs the same number of GPUs, or "
        "give --nproc-per-node"
    }
    assert not hosts[0].workers()


@pytest.mark.parametrize("present", [0, 1])
def test_a_host_that_never_comes_is_named(tmp_path: Path, port: int, present: int) -> None:
    launcher = Launcher(tmp_path, "ends", 1, PATIENCE="2", **hosts_of(port, TWO_HOSTS[present]))
    with launching(launcher):
        assert launcher.join() == 1
    assert launcher.failure.startswith(f"TrainingError: host {TWO_HOSTS[1 - present]} did not come within 2 seconds")
    assert f"waiting for {TWO_HOSTS[1 - present]}" in launcher.log.read_text()


def test_a_port_that_another_training_has_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        launcher = Launcher(tmp_path, "ends", 1, **hosts_of(taken.getsockname()[1], TWO_HOSTS[0]))
        with launching(launcher):
            assert launcher.join() == 1
    assert "of 127.0.0.1 cannot be used (address already in use)" in launcher.failure
