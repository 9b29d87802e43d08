"""Every engine gives the same probabilities, and the server answers the same with each, without torch for two."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.engine import ENGINES
from runtime.errors import ConfigError, ModelError
from runtime.files import file_sha256
from server.classifier import Classifier
from server.settings import ServeConfig
from support.exported import Exported
from support.serving import encoded_image, running, server_command

EXPORTED = [name for name in ENGINES if name != "torch"]
ROOT = Path(__file__).resolve().parents[2]
COMPUTE = """
import os, sys
from pathlib import Path
import numpy as np
from server.classifier import Classifier
from server.settings import ServeConfig
classifier = Classifier(ServeConfig(model_dir=Path(sys.argv[1]), engine="openvino", threads=2))
pixels = np.zeros((512, 32, 24, 3), np.uint8)
classifier(pixels)
"""
TELEMETRY = "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
AFFINITIES = """
from contextlib import suppress
from threading import Thread
computing, found = Thread(target=lambda: [classifier(pixels) for _ in range(8)]), set()
computing.start()
while computing.is_alive():
    for task in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # a thread that has ended
            found.add(tuple(os.sched_getaffinity(int(task))))
print(found)
"""


@pytest.fixture
def config(exported: Exported) -> ServeConfig:
    return ServeConfig(model_dir=exported.model, device="auto", threads=1)


@pytest.mark.parametrize("name", ENGINES)
def test_the_digest_is_that_of_model_json_with_every_engine(config: ServeConfig, name: str) -> None:
    expected = file_sha256(config.model_dir / "model.json")
    assert Classifier(replace(config, engine=name, device="cpu")).digest == expected


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
@pytest.mark.parametrize("name", EXPORTED)
def test_the_probabilities_are_those_of_torch_whatever_the_batch(config: ServeConfig, name: str, batch: int) -> None:
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, 32, 24, 3), dtype=np.uint8)
    expected = Classifier(replace(config, device="cpu"))(pixels)
    found = Classifier(replace(config, engine=name))(pixels)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_result_stays_as_it_is_when_the_next_batch_is_computed(config: ServeConfig, name: str) -> None:
    classifier = Classifier(replace(config, device="cpu", engine=name))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 24, 3), dtype=np.uint8)
    first = classifier(pixels)
    kept = first.copy()
    classifier(255 - pixels)
    assert (first == kept).all()


@pytest.mark.parametrize("name", EXPORTED)
def test_pixels_that_nobody_may_write_to_are_read(config: ServeConfig, name: str) -> None:
    """The server hands over memory that it shares with the processes that decode."""
    pixels = np.zeros((2, 32, 24, 3), np.uint8)
    pixels.flags.writeable = False
    assert Classifier(replace(config, engine=name))(pixels).shape == (2, 18)


@pytest.mark.parametrize("name", EXPORTED)
def test_an_engine_without_its_file_says_what_to_run(config: ServeConfig, name: str, tmp_path: Path) -> None:
    for file in ("model.json", "model.safetensors"):
        (tmp_path / file).write_bytes((config.model_dir / file).read_bytes())
    with pytest.raises(ModelError, match=r"there is no model\.onnx, which this engine needs; run make export"):
        Classifier(replace(config, model_dir=tmp_path, engine=name))


@pytest.mark.parametrize("name", EXPORTED)
def test_a_file_of_other_weights_is_rejected_by_every_engine(
    config: ServeConfig, name: str, exported: Exported, tmp_path: Path
) -> None:
    from support.serving import publish_model

    publish_model(tmp_path, seed=5)
    (tmp_path / "model.onnx").write_bytes(exported.onnx.read_bytes())
    with pytest.raises(ModelError, match=r"model\.onnx was exported from another model\.safetensors"):
        Classifier(replace(config, model_dir=tmp_path, engine=name))


@pytest.mark.parametrize("name", EXPORTED)
def test_a_link_and_a_damaged_file_are_rejected(
    config: ServeConfig, name: str, exported: Exported, tmp_path: Path
) -> None:
    for file in ("model.json", "model.safetensors"):
        (tmp_path / file).write_bytes((exported.model / file).read_bytes())
    (tmp_path / "model.onnx").symlink_to(exported.onnx)
    with pytest.raises(ModelError, match="link"):
        Classifier(replace(config, model_dir=tmp_path, engine=name))
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.onnx").write_bytes(exported.onnx.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded"):
        Classifier(replace(config, model_dir=tmp_path, engine=name))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("onnxruntime", {"precision": "bf16"}, "onnxruntime computes in fp32 only"),
        ("openvino", {"precision": "fp16"}, "fp16 needs a GPU"),
        ("onnxruntime", {"device": "cuda"}, "SERVE_ENGINE=onnxruntime computes on the CPU only"),
        ("openvino", {"device": "cuda"}, "SERVE_ENGINE=openvino computes on the CPU only"),
    ],
)
def test_what_an_engine_does_not_have_is_refused(
    config: ServeConfig, name: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(replace(config, engine=name, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXPORTED)
def test_test_time_augmentation_has_to_be_inside(config: ServeConfig, name: str) -> None:
    with pytest.raises(ModelError, match="exported with --tta none, expected flip; run make export TTA=flip"):
        Classifier(replace(config, engine=name, tta="flip"))


def test_bf16_of_openvino_is_near(config: ServeConfig) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3), dtype=np.uint8)
    exact = Classifier(replace(config, engine="openvino"))(pixels)
    assert Classifier(replace(config, engine="openvino", precision="bf16"))(pixels) == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_server_answers_as_with_torch_and_never_imports_it(exported: Exported, name: str, tmp_path: Path) -> None:
    body, headers = encoded_image(1, size=(384, 512)), {"accept": "application/json;verbose=1"}
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not in the lite image')")
    answers = []
    for engine in ("torch", name):
        command = server_command(exported.model, SERVE_ENGINE=engine, SERVE_THREADS=1)
        if engine != "torch":
            command["env"]["PYTHONPATH"] += os.pathsep + str(tmp_path)
            command["args"].insert(1, "-c")
            command["args"][2:] = _with_path_first(tmp_path, command["args"][-1])
        with running(exported.model, command=command, is_new=engine != "torch") as server:
            answers.append(server.post(body, **headers).json())
            code, printed = server.stop()
        assert code == 0
        assert (f"; engine={name}" in printed) == (engine == name)
    assert answers[0].keys() == answers[1].keys()
    assert answers[0]["prediction"] == answers[1]["prediction"]
    assert answers[1]["probability"] == pytest.approx(answers[0]["probability"], abs=1e-5)


def _with_path_first(folder: Path, script: str) -> list[str]:
    """Return a program that finds modules in `folder` before those that are installed, and then runs a script."""
    return [
        f"import sys, runpy; sys.path.insert(0, {str(folder)!r}); sys.argv = [{script!r}];"
        f" runpy.run_path({script!r}, run_name='__main__')"
    ]


def test_the_interpreter_of_the_tests_has_torch() -> None:
    """Else the test above would show nothing."""
    assert "torch" in sys.modules


def run(program: str, model: Path, home: Path, **environ: str) -> str:
    """Return what a program prints in a new process, whose home is a folder of its own."""
    path = os.pathsep.join(str(ROOT / name) for name in ("code", "container"))
    done = subprocess.run(
        [sys.executable, "-c", program, str(model)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": str(home), **environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_openvino_loads_nothing_that_sends_and_leaves_the_home_folder_alone(exported: Exported, tmp_path: Path) -> None:
    assert run(COMPUTE + TELEMETRY, exported.model, tmp_path) == "[]"
    assert not list(tmp_path.iterdir())


def test_openvino_by_itself_would_load_what_sends(exported: Exported, tmp_path: Path) -> None:
    """Else the test above would show nothing; it is told that this is CI, so that it sends nothing."""
    assert run("import sys, openvino;" + TELEMETRY, exported.model, tmp_path, CI="true") != "[]"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one CPU only")
def test_every_thread_may_run_on_every_cpu(exported: Exported, tmp_path: Path) -> None:
    assert run(COMPUTE + AFFINITIES, exported.model, tmp_path) == str({tuple(os.sched_getaffinity(0))})
