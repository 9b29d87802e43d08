"""The server process: it stops in order, survives bad clients, and does not start without a usable model."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.hostile_images import png
from support.preloaded import completed
from support.processes import Process
from support.raw_client import GOOD, PING, Client, request
from support.serving import Running, publish_model, running, server_command


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("served") / "model")


def test_on_sigterm_all_requests_get_their_responses_and_the_exit_code_is_zero(model_dir: Path) -> None:
    with running(model_dir) as server, contextlib.ExitStack() as stack:
        idle = stack.enter_context(Client(server, PING))
        half, whole = GOOD[:-10], GOOD[-10:]
        clients = [stack.enter_context(Client(server, request(half, length=len(GOOD)))) for _ in range(64)]
        for client in clients[:32]:
            client.send(whole)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while server.get("/ping").status != 503:  # it accepts connections until all have their responses
            pass
        for client in clients[32:]:
            client.send(whole)
        responses = [client.responses() for client in clients]
        assert [[response.status for response in got] for got in responses] == [[200]] * 64
        assert len(idle.responses()) == 1
        output, _ = server.process.communicate(timeout=20)
        assert time.monotonic() - started < 20
        assert server.process.returncode == 0
        assert "ended; pictures=64;" in output


def test_a_client_that_never_finishes_does_not_delay_the_exit(model_dir: Path) -> None:
    with running(model_dir, SERVE_RECEIVE_SECONDS=1) as server, Client(server, request(b"", length=9)) as client:
        started = time.monotonic()
        code, output = server.stop()
        assert code == 0, output
        assert time.monotonic() - started < 10
        assert [response.status for response in client.responses()] == [408]


def test_a_second_signal_ends_the_server_at_once(model_dir: Path) -> None:
    with running(model_dir) as server, Client(server, request(b"", length=9)):
        server.process.send_signal(signal.SIGINT)
        while server.get("/ping").status != 503:
            pass
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(5) == 128 + signal.SIGINT


def test_sigterm_while_the_model_is_loading_exits_with_zero_too(model_dir: Path) -> None:
    with running(model_dir, ready=False, is_new=True) as server:
        assert server.get("/ping").status == 503
        assert server.stop()[0] == 0


def wait_for_port(port: int) -> None:
    """Wait until a server accepts connections; the test fails after a minute without one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)


def test_a_server_whose_stdout_is_closed_serves(model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = server_command(model_dir, SAGEMAKER_BIND_TO_PORT=port)
    words = ["bash", "-c", 'exec "$@" >&-', "-", *command["args"]]
    with Process(words, env=command["env"], stderr=subprocess.PIPE, text=True) as process:
        wait_for_port(port)
        Running(process, port).until_ready()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


SLOW = """
import serve
from server import app

serve.DRAIN_SECONDS, app.CLOSE_SECONDS, app.DECODER = 0.5, 0.5, "support.hostile_decoders:decode_slowly"
serve.run(serve.main)
"""


@pytest.mark.parametrize("seconds", [0.3, 60])
def test_on_sigterm_what_takes_too_long_gets_a_503_and_the_exit_code_is_zero(
    model_dir: Path, tmp_path: Path, seconds: float
) -> None:
    command = server_command(model_dir, SERVE_THREADS=1, SLEEP=seconds)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command["args"][-1] = str(script)
    command["env"]["PYTHONPATH"] += f":{Path(__file__).parent}"
    with running(model_dir, command=command) as server, contextlib.ExitStack() as stack:
        half = stack.enter_context(Client(server, request(GOOD[:-10], length=len(GOOD))))
        clients = [stack.enter_context(Client(server, request())) for _ in range(40)]
        assert server.get("/ping").status == 200  # and the requests before have arrived
        code, output = server.stop()
        statuses = [[response.status for response in client.responses()] for client in (*clients, half)]
        assert code == 0, output
        assert "Traceback" not in output
        assert statuses.count([503]) >= 30
        assert [status for status in statuses if status not in ([200], [503])] == []
        assert statuses[-1] == [503]


def test_images_are_rejected_without_a_line_in_the_log(model_dir: Path) -> None:
    bodies = [png(9500 + number, 10_000, b"") for number in range(3)]
    command = server_command(model_dir)
    command["args"] = [part for part in command["args"] if part not in ("-W", "error")]
    with running(model_dir, command=command) as server:
        assert [server.post(body).status for body in bodies] == [413] * 3
        code, output = server.stop()
    assert code == 0
    assert [line.split(":")[0].split(";")[0] for line in output.splitlines()] == ["ready", "ended"], output


# what prevents a start


def ended(model_dir: Path, **settings: object) -> tuple[int, str]:
    """Return exit code and stderr of a server that does not start."""
    command = server_command(model_dir, **settings)
    done = completed(**command)
    return done.returncode, done.stderr.strip()


def test_every_wrong_setting_is_named(model_dir: Path) -> None:
    code, output = ended(model_dir, SAGEMAKER_MAX_PAYLOAD_IN_MB=101, BAD_INPUT="ignore", SERVE_PRECISION="fp8")
    assert code == 2
    assert output.count("\n") == 0
    for name in ("SAGEMAKER_MAX_PAYLOAD_IN_MB: 101 is out of range", "BAD_INPUT: unknown value", "SERVE_PRECISION"):
        assert name in output


def test_a_variable_that_is_nearly_a_setting_is_named_and_ignored(model_dir: Path) -> None:
    _, output = ended(model_dir, SERVE_BATCHSIZE=8, SERVE_HOST="nowhere.invalid")
    warning, error = output.splitlines()
    assert warning.startswith("warning: unknown setting 'SERVE_BATCHSIZE' (did you mean 'SERVE_BATCH_SIZE'?); ")
    assert warning.endswith("; it is ignored")
    assert error.startswith("ConfigError: cannot listen on nowhere.invalid")


def test_a_port_that_is_taken_is_named(model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, output = ended(model_dir, SAGEMAKER_BIND_TO_PORT=port)
    assert code == 2
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in output


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_named(model_dir: Path, host: str) -> None:
    code, output = ended(model_dir, SERVE_HOST=host)
    assert code == 2
    assert output.startswith(f"ConfigError: cannot listen on {host} port ")
    assert output.endswith("; set SERVE_HOST to an address of this machine")


def test_without_a_usable_model_the_server_exits_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    code, output = ended(tmp_path / "model", SM_OUTPUT_DIR=tmp_path / "output")
    assert code == 1
    assert output.startswith("ModelError: model.safetensors is missing")
    assert output.count("\n") == 0
    assert (tmp_path / "output" / "failure").read_text() == output


@pytest.mark.parametrize("name", [["mask"], pytest.param({}, marks=pytest.mark.slow)])
def test_a_model_whose_classes_cannot_be_written_is_an_error_and_does_not_hang(tmp_path: Path, name: object) -> None:
    path = publish_model(tmp_path / "model") / "model.json"
    record = json.loads(path.read_text())
    record["scheme"]["tasks"][0]["name"] = name
    path.write_text(json.dumps(record))
    code, output = ended(tmp_path / "model")
    assert code == 1
    assert output.startswith("ModelError: ")
    assert output.count("\n") == 0


def test_help_names_every_variable(model_dir: Path) -> None:
    command = server_command(model_dir)
    done = subprocess.run([*command["args"], "--help"], env=command["env"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for name in (
        "SM_MODEL_DIR",
        "SAGEMAKER_BIND_TO_PORT",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        "SAGEMAKER_BATCH",
        "BAD_INPUT",
        "SERVE_DECODE_SECONDS",
        "SERVE_DECODE_MEMORY_MB",
    ):
        assert name in done.stdout


# no pickle

PICKLE_WATCH = """
import json, sys
loaded = []
sys.addaudithook(lambda event, details: loaded.append(details) if event == "pickle.find_class" else None)
sys.path[:0] = json.loads(sys.argv[1])
from support.serving import InProcess, encoded_image
from server.settings import ServeConfig
from pathlib import Path
with InProcess(ServeConfig(model_dir=Path(sys.argv[2]), device="cpu")) as server:
    assert server.until_ready().post(encoded_image(1)).status == 200
assert not loaded, loaded
import pickle
pickle.loads(pickle.dumps(Path("x")))
assert loaded, "the hook does not work"
"""


def test_nothing_is_unpickled_from_the_start_to_the_response(model_dir: Path) -> None:
    folders = [str(Path(__file__).parent), *server_command(model_dir)["env"]["PYTHONPATH"].split(":")]
    command = [sys.executable, "-c", PICKLE_WATCH, json.dumps(folders), str(model_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
