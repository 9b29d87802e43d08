"""The launcher reads every shape of SageMaker's files, passes them to the command, and becomes that command."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import launch
from commands import COMMANDS
from config import TrainConfig, TrainPaths
from contract import folder_variables
from runtime.arguments import parse
from runtime.errors import ConfigError
from runtime.version import NAME, version

ROOT = Path(__file__).parents[1]


class Started(Exception):
    """The process that the launcher would have become."""

    def __init__(self, program: str, words: list[str], environ: dict[str, str]) -> None:
        super().__init__(program)
        self.words, self.environ = words, environ

    @property
    def config(self) -> TrainConfig:
        (config,) = parse("train.py", self.words[2:], self.environ, TrainConfig)
        assert isinstance(config, TrainConfig)
        return config


@pytest.fixture
def opt_ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create the tree of a training job and set it as /opt/ml; sagemaker_training is imported again to read it."""
    base = tmp_path / "opt_ml"
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "data" / "train").mkdir(parents=True)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("SM_")]:
        del os.environ[name]
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    for name in [name for name in sys.modules if name.startswith("sagemaker_training")]:
        monkeypatch.delitem(sys.modules, name)
    yield base
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Started]:
    """Launch a command up to the point where it would replace the process."""

    def execve(program: str, words: list[str], environ: dict[str, str]) -> None:
        raise Started(program, words, environ)

    def start(*words: str) -> Started:
        with pytest.raises(Started) as stopped:
            launch.launch(["launch.py", *words])
        return stopped.value

    monkeypatch.setattr(os, "execve", execve)
    return start


Start = Callable[..., Started]

HOSTILE = "it's; $(touch x) `id` | & > --epochs 9 \N{SNOWMAN}"


def write_config(base: Path, name: str, content: Any) -> None:
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


# hyperparameters


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("epochs", "3", 3),
        ("epochs", 3, 3),
        ("epochs", '"3"', 3),
        ("epochs", '"\\"3\\""', 3),
        ("epochs", "", 1),
        ("epochs", None, 1),
        ("lr", "1e-05", 1e-5),
        ("deterministic", "false", False),
        ("deterministic", "False", False),
        ("deterministic", False, False),
        ("deterministic", '"0"', False),
        ("resize", "[64, 48]", (64, 48)),
        ("resize", "64,48", (64, 48)),
        ("resize", [64, 48], (64, 48)),
        ("criterion_args", '{"gamma": 1.5}', {"gamma": 1.5}),
        ("criterion_args", {"gamma": 1.5}, {"gamma": 1.5}),
        ("criterion_args", "gamma=1.5,reduction=sum", {"gamma": 1.5, "reduction": "sum"}),
        ("crop", "none", None),
        ("model", '"resnet18"', "resnet18"),
        ("name", HOSTILE, HOSTILE),
        ("name", "--epochs", "--epochs"),
        ("name", "1e5", "1e5"),
        ("name", "x" * 2500, "x" * 2500),
    ],
)
def test_every_way_to_write_a_hyperparameter_means_the_same(
    opt_ml: Path, started: Start, field: str, written: object, meant: object
) -> None:
    write_config(opt_ml, "hyperparameters", {field: written})
    assert getattr(started("train").config, field) == meant


def test_a_flag_on_the_command_line_wins_over_a_hyperparameter(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "hyperparameters", {"epochs": "3", "batch_size": "8"})
    config = started("train", "--epochs", "5").config
    assert (config.epochs, config.batch_size) == (5, 8)


def test_hyperparameters_of_sagemaker_itself_are_ignored(opt_ml: Path, started: Start) -> None:
    ours = {"sagemaker_program": "train.py", "sagemaker_region": '"eu-west-1"', "sagemaker_some_day": "1"}
    write_config(opt_ml, "hyperparameters", {"_tuning_objective_metric": "val_f1", **ours, "epochs": "2"})
    assert started("train").words[2:] == ["--epochs=2"]


@pytest.mark.parametrize("name", ["epoch", "epochs ", "a b", "help", "lr=1", "--lr"])
def test_an_unknown_hyperparameter_is_rejected_before_the_command_starts(
    opt_ml: Path, started: Start, name: str
) -> None:
    write_config(opt_ml, "hyperparameters", {name: "3"})
    with pytest.raises(ConfigError):
        launch.launch(["launch.py", "train"])


def test_a_wrong_hyperparameter_gets_the_message_of_train(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "hyperparameters", {"epoch": "3", "lr": "fast"})
    with pytest.raises(ConfigError) as rejected:
        launch.launch(["launch.py", "train"])
    with pytest.raises(ConfigError) as expected:
        parse("train.py", ["--epoch=3", "--lr=fast"], {}, TrainPaths, TrainConfig)
    assert "did you mean '--epochs'?" in str(rejected.value)
    assert str(rejected.value) == str(expected.value)


@pytest.mark.parametrize("text", ["{", "[1]", "3", '"epochs"', "\xff"])
def test_a_config_file_that_is_not_a_json_object_is_named(opt_ml: Path, started: Start, text: str) -> None:
    (opt_ml / "input" / "config" / "hyperparameters.json").write_bytes(text.encode("latin1"))
    with pytest.raises(ConfigError, match=r"hyperparameters\.json .*: .*/input/config/hyperparameters\.json$"):
        launch.launch(["launch.py", "train"])


# hosts, channels, folders

SERVICE = {
    "current_host": "algo-1",
    "current_instance_type": "ml.g5.xlarge",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1"],
    "instance_groups": [
        {"instance_group_name": "homogeneousCluster", "instance_type": "ml.g5.xlarge", "hosts": ["algo-1"]}
    ],
    "network_interface_name": "eth0",
    "topology": None,
}


@pytest.mark.parametrize(
    ("resources", "host"),
    [
        pytest.param(SERVICE, "algo-1", id="service"),
        pytest.param(
            {"current_host": "algo-1-x7k2p", "hosts": ["algo-1-x7k2p"]}, "algo-1-x7k2p", id="local mode of v2"
        ),
        pytest.param(
            {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "ethwe"},
            "algo-1",
            id="local mode of v3",
        ),
        pytest.param(None, "algo-1", id="absent"),
    ],
)
def test_every_shape_of_the_resource_config_is_read(
    opt_ml: Path, started: Start, resources: dict[str, Any] | None, host: str
) -> None:
    if resources:
        write_config(opt_ml, "resourceconfig", resources)
    environ = started("train").environ
    assert environ["SM_CURRENT_HOST"] == host
    assert json.loads(environ["SM_HOSTS"]) == [host]


def test_a_job_with_several_hosts_is_rejected(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "resourceconfig", SERVICE | {"hosts": ["algo-1", "algo-2"]})
    with pytest.raises(ConfigError, match="2 hosts, training runs on one; set the instance count to 1"):
        launch.launch(["launch.py", "train"])


@pytest.mark.parametrize("hosts", [None, "algo-1"])
def test_hosts_that_are_not_a_list_are_rejected(opt_ml: Path, started: Start, hosts: object) -> None:
    write_config(opt_ml, "resourceconfig", SERVICE | {"hosts": hosts})
    with pytest.raises(ConfigError, match=r"hosts is .* in resourceconfig\.json, expected a list"):
        launch.launch(["launch.py", "train"])


def test_a_folder_in_the_place_of_a_file_is_explained(opt_ml: Path, started: Start) -> None:
    (opt_ml / "input" / "config" / "hyperparameters.json").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"^hyperparameters\.json is a folder, which Docker creates if the source of a mount"
    ):
        launch.launch(["launch.py", "train"])


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_hyperparameter_that_a_command_line_cannot_pass_is_named(opt_ml: Path, started: Start, text: str) -> None:
    write_config(opt_ml, "hyperparameters", {"name": text})
    with pytest.raises(
        ConfigError, match=r"^hyperparameter '--name=.*' has a character that a command line cannot pass"
    ):
        launch.launch(["launch.py", "train"])


def test_an_empty_number_of_gpus_means_none(opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_NUM_GPUS", "")
    assert started("train").environ["SM_NUM_GPUS"] == ""


def test_the_log_says_that_one_of_several_gpus_is_used(
    opt_ml: Path, started: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A10G'\necho 'GPU 1: NVIDIA A10G'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert started("train").environ["SM_NUM_GPUS"] == "2"
    assert "training uses one of the 2 GPUs of this host" in capsys.readouterr().out


def test_the_command_gets_every_variable_of_sagemaker_training(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "hyperparameters", {"epochs": "3", "deterministic": "true"})
    write_config(opt_ml, "inputdataconfig", {"train": {"TrainingInputMode": "File"}})
    environ = started("train").environ
    assert environ["SM_CHANNEL_TRAIN"] == f"{opt_ml}/input/data/train"
    assert environ["SM_MODEL_DIR"] == f"{opt_ml}/model"
    assert environ["SM_OUTPUT_DIR"] == f"{opt_ml}/output"
    assert environ["SM_OUTPUT_DATA_DIR"] == f"{opt_ml}/output/data"
    assert environ["SM_CHECKPOINT_DIR"] == f"{opt_ml}/checkpoints"
    assert environ["SM_CHANNELS"] == '["train"]'
    assert environ["SM_HPS"] == '{"deterministic":true,"epochs":3}'
    assert environ["SM_HP_EPOCHS"] == "3"
    assert environ["SM_NUM_CPUS"].isdigit()
    assert "SM_CHANNEL_PRETRAINED" not in environ


def test_without_an_input_data_config_the_folders_are_the_channels(opt_ml: Path, started: Start) -> None:
    (opt_ml / "input" / "data" / "pretrained").mkdir()
    (opt_ml / "input" / "data" / "train-manifest").write_text("{}")
    environ = started("train").environ
    assert environ["SM_CHANNELS"] == '["pretrained","train"]'
    assert environ["SM_CHANNEL_PRETRAINED"] == f"{opt_ml}/input/data/pretrained"


def test_the_channel_names_that_the_sdk_chooses_are_understood(opt_ml: Path, started: Start) -> None:
    (opt_ml / "input" / "data" / "train").rename(opt_ml / "input" / "data" / "training")
    (opt_ml / "input" / "data" / "model").mkdir()
    write_config(opt_ml, "inputdataconfig", {"training": {"TrainingInputMode": "FastFile"}, "model": {}})
    environ = started("train").environ
    assert environ["SM_CHANNEL_TRAIN"] == f"{opt_ml}/input/data/training"
    assert environ["SM_CHANNEL_PRETRAINED"] == f"{opt_ml}/input/data/model"


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        ({"tain": {}, "validation": {}}, "no channel is named 'train', only tain, validation"),
        ({"train": {"TrainingInputMode": "Pipe"}}, "channel 'train' has input mode Pipe"),
        ({"train": None}, "channel 'train' is None in inputdataconfig.json, expected an object"),
        ({"train": "s3://b/p"}, "channel 'train' is 's3://b/p' in inputdataconfig.json, expected an object"),
    ],
)
def test_channels_without_training_images_in_files_are_rejected(
    opt_ml: Path, started: Start, channels: dict[str, Any], sentence: str
) -> None:
    write_config(opt_ml, "inputdataconfig", channels)
    with pytest.raises(ConfigError, match=sentence):
        launch.launch(["launch.py", "train"])


def test_a_missing_input_is_reported_with_its_preferred_folder(tmp_path: Path) -> None:
    assert folder_variables(COMMANDS["train"], tmp_path)["SM_CHANNEL_TRAIN"] == f"{tmp_path}/input/data/train"
    assert folder_variables(COMMANDS["infer"], tmp_path)["SM_CHANNEL_EVAL"] == f"{tmp_path}/input/data/eval"


def test_a_variable_of_the_caller_wins(opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", "/somewhere/else")
    monkeypatch.setenv("SM_MODEL_DIR", "/elsewhere")
    environ = started("train").environ
    assert (environ["SM_CHANNEL_TRAIN"], environ["SM_MODEL_DIR"]) == ("/somewhere/else", "/elsewhere")


def test_checkpoints_go_where_sagemaker_copies_them_from(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "checkpointconfig", {"LocalPath": "/state"})
    assert started("train").environ["SM_CHECKPOINT_DIR"] == "/state"


def test_checkpoints_stay_in_the_run_folder_if_their_own_folder_is_not_writable(
    opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere but on a read-only disk
    assert "SM_CHECKPOINT_DIR" not in started("train").environ


def test_inference_takes_the_model_that_training_left(opt_ml: Path, started: Start) -> None:
    (opt_ml / "model").mkdir()
    assert started("infer").environ["SM_CHANNEL_MODEL"] == f"{opt_ml}/model"
    (opt_ml / "input" / "data" / "model").mkdir()
    assert started("infer").environ["SM_CHANNEL_MODEL"] == f"{opt_ml}/input/data/model"


def test_the_files_for_local_runs_are_read(opt_ml: Path, started: Start) -> None:
    for path in (ROOT / "container" / "local" / "config").iterdir():
        shutil.copy(path, opt_ml / "input" / "config")
    became = started("train")
    assert became.words[2:] == []
    assert became.environ["SM_CHANNELS"] == '["train"]'


# processing jobs


@pytest.mark.parametrize("channel", ["eval", "test", "data"])
def test_inference_finds_the_inputs_of_a_processing_job(opt_ml: Path, started: Start, channel: str) -> None:
    (opt_ml / "processing" / channel).mkdir(parents=True)
    environ = started("infer").environ
    assert environ["SM_CHANNEL_EVAL"] == f"{opt_ml}/processing/{channel}"
    assert environ["SM_CHANNEL_MODEL"] == f"{opt_ml}/processing/model"
    assert environ["SM_OUTPUT_DATA_DIR"] == f"{opt_ml}/processing/predictions"


def test_evaluation_finds_the_inputs_of_a_processing_job(opt_ml: Path, started: Start) -> None:
    (opt_ml / "config").mkdir()
    (opt_ml / "config" / "processingjobconfig.json").write_text("{}")
    environ = started("evaluate").environ
    assert environ["SM_GROUND_TRUTH_DIR"] == f"{opt_ml}/processing/ground_truth"
    assert environ["SM_PREDICTION_DIR"] == f"{opt_ml}/processing/predictions"
    assert environ["SM_OUTPUT_DATA_DIR"] == f"{opt_ml}/processing/evaluation"
    assert environ["SM_MESSAGE_FILE"] == f"{opt_ml}/output/message"


# replacing the launcher


@pytest.fixture
def job(opt_ml: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the launcher as a real process, next to a train.py that is given as text."""
    (tmp_path / "job" / "container").mkdir(parents=True)
    (tmp_path / "job" / "code").mkdir()
    for name in ("launch.py", "commands.py", "contract.py", "cuda_driver.py"):
        shutil.copy(ROOT / "container" / name, tmp_path / "job" / "container")

    def start(*words: str, script: str = "", command: str = "container/launch.py") -> subprocess.Popen[str]:
        (tmp_path / "job" / "code" / "train.py").write_text(script)
        program = tmp_path / "job" / command
        environ = os.environ | {"PYTHONPATH": f"{ROOT / 'code'}:{tmp_path}/job/container"}
        return subprocess.Popen([sys.executable, program, *words], env=environ, stdout=subprocess.PIPE, text=True)

    return start


def test_the_command_replaces_the_launcher(opt_ml: Path, job: Callable[..., subprocess.Popen[str]]) -> None:
    write_config(opt_ml, "hyperparameters", {"name": HOSTILE})
    script = (
        "import os, sys, json; print(json.dumps([os.getpid(), sys.argv[1:], os.environ['SM_HP_NAME']])); sys.exit(7)"
    )
    process = job("train", "--epochs", "2", script=script)
    printed = process.communicate(timeout=60)[0].splitlines()
    assert json.loads(printed[-1]) == [process.pid, [f"--name={HOSTILE}", "--epochs", "2"], HOSTILE]
    assert process.returncode == 7


def test_sigterm_reaches_the_command(job: Callable[..., subprocess.Popen[str]]) -> None:
    script = "import signal; signal.signal(15, lambda *_: exit(9)); print('ready', flush=True); signal.pause()"
    process = job("train", script=script)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "ready":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 9


def test_a_link_with_the_name_of_a_command_starts_it(tmp_path: Path, job: Callable[..., subprocess.Popen[str]]) -> None:
    (tmp_path / "job" / "bin").mkdir()
    (tmp_path / "job" / "bin" / "train").symlink_to("../container/launch.py")
    process = job("--epochs", "2", script="import sys; print(sys.argv[1:])", command="bin/train")
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "['--epochs', '2']"


def test_another_executable_of_the_image_is_started_unchanged(job: Callable[..., subprocess.Popen[str]]) -> None:
    process = job("printf", "%s|", "a b", "--epochs=3")
    assert process.communicate(timeout=60)[0] == "a b|--epochs=3|"
    assert process.returncode == 0


def test_the_failure_file_says_why_arguments_were_rejected(
    opt_ml: Path, job: Callable[..., subprocess.Popen[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    write_config(opt_ml, "hyperparameters", {"epoch": "3"})
    process = job("train", script="raise AssertionError('started anyway')")
    process.communicate(timeout=60)
    failure = (opt_ml / "output" / "failure").read_text()
    assert process.returncode == 2
    assert failure.startswith("ConfigError: unknown argument '--epoch' (did you mean '--epochs'?)")
    assert capfd.readouterr().err.strip() == failure


def test_the_failure_of_an_earlier_run_does_not_hide_that_of_this_one(
    opt_ml: Path, job: Callable[..., subprocess.Popen[str]]
) -> None:
    failure = opt_ml / "output" / "failure"
    failure.parent.mkdir()
    failure.write_text("DataError: an earlier reason")
    write_config(opt_ml, "hyperparameters", {"epochs": "nine"})
    job("train").communicate(timeout=60)
    assert failure.read_text().startswith("ConfigError: --epochs: 'nine'")


@pytest.mark.parametrize(
    ("words", "sentence"), [([], "no command given; choose from"), (["tran"], "did you mean 'train'")]
)
def test_an_unknown_command_is_rejected(opt_ml: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        launch.launch(["launch.py", *words])


@pytest.mark.parametrize("command", ["train", "infer", "evaluate"])
def test_an_unknown_flag_is_rejected_before_the_command_starts(opt_ml: Path, started: Start, command: str) -> None:
    with pytest.raises(ConfigError, match="unknown argument '--nonsense'"):
        launch.launch(["launch.py", command, "--nonsense", "3"])


def test_a_processing_job_says_why_it_was_rejected(opt_ml: Path, started: Start) -> None:
    (opt_ml / "config").mkdir()
    (opt_ml / "config" / "processingjobconfig.json").write_text("{}")
    with pytest.raises(ConfigError):
        launch.launch(["launch.py", "evaluate", "--nonsense", "3"])
    assert os.environ["SM_MESSAGE_FILE"] == f"{opt_ml}/output/message"


def test_the_command_gets_the_libraries_that_the_driver_needs(
    opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "driver_variables", lambda environ: {"LD_LIBRARY_PATH": "/compat"})
    assert started("train").environ["LD_LIBRARY_PATH"] == "/compat"


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["evaluate", "--version"]])
def test_the_version_is_printed_with_and_without_a_command(
    job: Callable[..., subprocess.Popen[str]], words: list[str]
) -> None:
    process = job(*words)
    assert process.communicate(timeout=60)[0] == f"{NAME} {version()}\n"
    assert process.returncode == 0


def test_help_exits_with_zero(job: Callable[..., subprocess.Popen[str]]) -> None:
    process = job("train", "--help")
    assert "--epochs" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
