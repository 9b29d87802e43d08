"""A training job on two hosts: containers algo-1 and algo-2 on an internal network, each with an /opt/ml of its own."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containers import IMAGE, QUICK, docker, wait_for_log

pytestmark = pytest.mark.image

COMPOSE = Path(__file__).with_name("two_hosts.yml")
HOSTS = ("algo-1", "algo-2")
USER = 12345
FOREVER = QUICK | {"epochs": "999999", "parts": "2"}


class TwoHosts:
    """The compose project, and what its hosts have on disk."""

    def __init__(self, base: Path, faces: Path) -> None:
        self.base, self.name = base, f"two-hosts-{os.getpid()}"
        self.environ = os.environ | {"IMAGE": IMAGE, "DATA": str(faces / "train"), "USER_IDS": f"{USER}:{USER}"}
        for host in HOSTS:
            for folder in ("code", "input/config", "input/data/train", "model", "output", "checkpoints"):
                path = base / host / folder
                path.mkdir(parents=True)
                path.chmod(0o777)
            self.environ[host.replace("-", "_").upper()] = str(base / host)
            self.config(host, "inputdataconfig", {"train": {"TrainingInputMode": "File"}})

    def config(self, host: str, name: str, content: object) -> None:
        (self.base / host / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def start(self, hyperparameters: dict[str, object], hosts: tuple[str, ...] = HOSTS) -> None:
        """Start the job from the beginning on these hosts, which are told of each other in another order."""
        for host in hosts:
            self.config(host, "hyperparameters", hyperparameters)
            # The interface is that of the SDK's local mode, which does not exist.
            names = {"current_host": host, "hosts": hosts[::-1], "network_interface_name": "ethwe"}
            self.config(host, "resourceconfig", names)
        self.compose("up", "--detach", "--force-recreate", "--no-deps", *hosts)

    def compose(self, *words: str) -> str:
        command = ["docker", "compose", "--file", str(COMPOSE), "--project-name", self.name, *words]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def container(self, host: str) -> str:
        return self.compose("ps", "--all", "--quiet", host)

    def wait_for(self, text: str, host: str = "algo-1") -> None:
        """Wait until a line of the log of a host contains a text."""
        wait_for_log(self.container(host), text)

    def exit_codes(self, hosts: tuple[str, ...] = HOSTS) -> list[int]:
        """Wait for the end of the hosts."""
        return [int(docker("wait", self.container(host)).stdout) for host in hosts]

    def log(self, host: str) -> str:
        done = docker("logs", self.container(host))
        return done.stdout + done.stderr

    def failure(self, host: str) -> str:
        file = self.base / host / "output" / "failure"
        return file.read_text() if file.exists() else ""

    def names(self, host: str, folder: str) -> list[str]:
        return sorted(path.name for path in (self.base / host / folder).iterdir())


@pytest.fixture
def job(tmp_path: Path, faces: Path) -> Iterator[TwoHosts]:
    hosts = TwoHosts(tmp_path / "ml", faces)
    yield hosts
    hosts.compose("down", "--timeout", "0")
    docker("run", "--rm", f"--volume={tmp_path}:/left", "--entrypoint=chmod", IMAGE, "-R", "a+rwX", "/left")


def test_two_hosts_train_together_and_the_first_one_leaves_the_model(job: TwoHosts) -> None:
    job.start(QUICK)
    assert job.exit_codes() == [0, 0], job.log("algo-1") + job.log("algo-2")
    assert "1 worker on each of 2 hosts: algo-1, algo-2; network interface eth" in job.log("algo-2")
    assert job.names("algo-1", "model") == ["model.json", "model.safetensors"]
    assert job.names("algo-2", "model") == job.names("algo-2", "checkpoints") == []
    assert not [path for path in (job.base / "algo-2" / "output").rglob("*") if path.is_file()]
    assert "epoch=1;" in job.log("algo-1")
    assert "epoch=" not in job.log("algo-2")  # SageMaker reads metrics from the logs of all hosts


def test_a_stop_of_one_host_stops_both_and_one_host_resumes(job: TwoHosts) -> None:
    job.start(FOREVER)
    job.wait_for("epoch=2;")
    began = time.monotonic()
    docker("kill", "--signal=TERM", job.container("algo-2"))
    assert job.exit_codes() == [0, 0], job.log("algo-1") + job.log("algo-2")
    assert time.monotonic() - began < 60
    steps = int(re.findall(r"checkpoint: step=(\d+);", job.log("algo-1"))[-1])

    job.start(FOREVER, ("algo-1",))
    job.wait_for("resumed at epoch")
    assert f"after {steps} steps" in job.log("algo-1")
    docker("stop", "--time=120", job.container("algo-1"))
    assert job.exit_codes(("algo-1",)) == [0]


@pytest.mark.parametrize("gone", HOSTS)
def test_a_host_that_is_killed_is_named_by_the_other(job: TwoHosts, gone: str) -> None:
    (left,) = [host for host in HOSTS if host != gone]
    job.start(FOREVER)
    job.wait_for("epoch=1;")
    began = time.monotonic()
    docker("kill", "--signal=KILL", job.container(gone))
    assert job.exit_codes((left,)) == [1], job.log(left)
    assert time.monotonic() - began < 60
    assert gone in job.failure(left)
    assert "closed by peer" not in job.failure(left)


def test_a_killed_worker_is_named_in_the_failure_file_of_both_hosts(job: TwoHosts) -> None:
    job.start(FOREVER)
    job.wait_for("epoch=1;")
    kill = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
    docker("exec", job.container("algo-2"), "python", "-c", kill)
    assert job.exit_codes() == [1, 1]
    assert job.failure("algo-1").startswith("TrainingError: worker 1 of algo-2 was killed (SIGKILL)")
    assert job.failure("algo-2") == job.failure("algo-1")
