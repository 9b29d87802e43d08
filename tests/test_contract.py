"""Every shape of SageMaker's files becomes the variables and flags of a command."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import launch
from commands import COMMANDS
from config import TrainConfig, TrainPaths
from contract import MAX_ARGUMENT_BYTES, folder_variables
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.launching import HOSTILE, Start, launcher, training_tree, write_config
from support.strange_files import KINDS, make_strange
from training.hosts import Hosts, read_hosts

ROOT = Path(__file__).parents[1]


@pytest.fixture
def opt_ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with training_tree(tmp_path / "opt_ml", monkeypatch) as base:
        yield base


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Start:
    return launcher(monkeypatch)


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
        ("epochs", "null", 1),
        ("lr", "None", 1e-3),
        ("resize", '"None"', (128, 96)),
        ("criterion_args", "null", {}),
        ("name", "null", "exp"),
        ("pretrained", "None", "auto"),
        ("pretrained", "none", "none"),
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


@pytest.mark.parametrize(
    ("old", "new"), [("batch-size", "batch_size"), ("accumulate", "parts"), ("batch_size", "batch-size")]
)
def test_a_hyperparameter_given_twice_with_different_values_is_rejected(
    opt_ml: Path, started: Start, old: str, new: str
) -> None:
    write_config(opt_ml, "hyperparameters", {old: "8", new: "16"})
    with pytest.raises(ConfigError, match=f"--{old} 8 and --{new} 16 are the same option|--{new} 16 and --{old} 8"):
        launch.launch(["launch.py", "train"])
    write_config(opt_ml, "hyperparameters", {old: "8", new: 8.0})
    assert f"--{old}=8" in started("train").words


def test_a_flag_on_the_command_line_wins_over_a_hyperparameter_of_another_spelling(
    opt_ml: Path, started: Start
) -> None:
    write_config(opt_ml, "hyperparameters", {"batch-size": "8", "accumulate": "2", "epochs": "3"})
    became = started("train", "--batch_size", "16", "--parts=4")
    assert became.words[2:] == ["--epochs=3", "--batch_size", "16", "--parts=4"]


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


def test_a_name_that_is_twice_in_a_config_file_is_rejected(opt_ml: Path, started: Start) -> None:
    (opt_ml / "input" / "config" / "hyperparameters.json").write_text('{"epochs": "3", "epochs": "30"}')
    with pytest.raises(ConfigError, match=r"^hyperparameters\.json: 'epochs' is given twice, as '3' and '30'; give it"):
        launch.launch(["launch.py", "train"])


def test_a_byte_order_mark_in_a_config_file_is_ignored(opt_ml: Path, started: Start) -> None:
    contents = {
        "hyperparameters": {"epochs": "3"},
        "inputdataconfig": {"train": {}},
        "resourceconfig": {"hosts": ["algo-1"], "current_host": "algo-1"},
        "checkpointconfig": {"LocalPath": "/state"},
    }
    for name, content in contents.items():
        (opt_ml / "input" / "config" / f"{name}.json").write_text(json.dumps(content), "utf-8-sig")
    became = started("train")
    assert became.config.epochs == 3
    assert (became.environ["SM_CHANNELS"], became.environ["SM_CHECKPOINT_DIR"]) == ('["train"]', "/state")


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


def test_the_command_gets_the_hosts_of_the_job(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "resourceconfig", SERVICE | {"hosts": ["algo-10", "algo-1", "algo-2"]})
    assert read_hosts(started("train").environ) == Hosts(("algo-1", "algo-2", "algo-10"), "algo-1", "eth0")


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        (
            {"instance_groups": [{"instance_group_name": "a"}, {"instance_group_name": "b"}]},
            r"the job has 2 instance groups \(a, b\), expected one",
        ),
        ({"current_host": "algo-3"}, r"current_host is 'algo-3' in resourceconfig\.json, expected one of the hosts"),
        ({"hosts": ["algo-1", "algo-1"]}, r"hosts has a name twice in resourceconfig\.json"),
    ],
)
def test_hosts_that_cannot_train_together_are_rejected(
    opt_ml: Path, started: Start, resources: dict[str, Any], sentence: str
) -> None:
    write_config(opt_ml, "resourceconfig", SERVICE | {"hosts": ["algo-1", "algo-2"]} | resources)
    with pytest.raises(ConfigError, match=sentence):
        launch.launch(["launch.py", "train"])


def test_images_that_are_spread_over_the_hosts_are_rejected(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "inputdataconfig", {"train": {"S3DistributionType": "ShardedByS3Key"}})
    started("train")  # one host has all of them
    write_config(opt_ml, "resourceconfig", SERVICE | {"hosts": ["algo-1", "algo-2"]})
    with pytest.raises(ConfigError, match="channel 'train' is ShardedByS3Key, so each of the 2 hosts would have other"):
        launch.launch(["launch.py", "train"])


@pytest.mark.parametrize("hosts", [None, "algo-1", [], [1]])
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


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("pretrain", "pretrained"),
        ("pre-trained", "pretrained"),
        ("pretrained_weights", "pretrained"),
        ("models", "pretrained"),
        ("Validations", "validation"),
        ("evaluation", "validation"),
        ("train2", "train"),
        ("training-data", "train"),
        ("trian", "train"),
    ],
)
def test_a_channel_that_is_nearly_one_that_is_read_is_rejected(
    opt_ml: Path, started: Start, name: str, nearest: str
) -> None:
    write_config(opt_ml, "inputdataconfig", {"train": {}, name: {}})
    with pytest.raises(
        ConfigError, match=f"^channel '{name}' would be ignored, although its name is nearly '{nearest}'"
    ):
        launch.launch(["launch.py", "train"])


@pytest.mark.parametrize("shadowed", [("train", "training"), ("pretrained", "model")])
def test_two_channels_for_one_input_are_rejected(opt_ml: Path, started: Start, shadowed: tuple[str, str]) -> None:
    for name in shadowed:
        (opt_ml / "input" / "data" / name).mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match=f"^channel '{shadowed[1]}' would be ignored"):
        launch.launch(["launch.py", "train"])


@pytest.mark.parametrize("name", ["test", "notes", "weights"])
def test_another_channel_that_is_not_read_is_named_in_a_warning(
    opt_ml: Path, started: Start, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(opt_ml, "inputdataconfig", {"train": {}, name: {}})
    started("train")
    warning = (
        f"warning: unknown channel '{name}'; choose from labels, pretrained, train, validation; its files are ignored"
    )
    assert capsys.readouterr().err.startswith(warning)


def test_a_validation_channel_is_read_and_needs_no_warning(
    opt_ml: Path, started: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SM_CHANNEL_VALIDATION" not in started("train").environ
    (opt_ml / "input/data/validation").mkdir()
    write_config(opt_ml, "inputdataconfig", {"train": {}, "validation": {}})
    assert started("train").environ["SM_CHANNEL_VALIDATION"] == f"{opt_ml}/input/data/validation"
    assert capsys.readouterr().err == ""


def test_a_labels_channel_is_read_and_needs_no_warning(
    opt_ml: Path, started: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SM_CHANNEL_LABELS" not in started("train").environ
    (opt_ml / "input/data/labels").mkdir()
    write_config(opt_ml, "inputdataconfig", {"train": {}, "labels": {}})
    assert started("train").environ["SM_CHANNEL_LABELS"] == f"{opt_ml}/input/data/labels"
    assert capsys.readouterr().err == ""


def test_a_channel_in_capitals_is_read(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "inputdataconfig", {"train": {}, "Pretrained": {}})
    assert started("train").environ["SM_CHANNEL_PRETRAINED"] == f"{opt_ml}/input/data/Pretrained"


def test_channels_that_the_sdk_adds_or_a_flag_reads_need_no_warning(
    opt_ml: Path, started: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(opt_ml, "inputdataconfig", {"train": {}, "code": {}, "sm_drivers": {}, "pretrain": {}})
    started("train", "--pretrained", f"{opt_ml}/input/data/pretrain/resnet.pth")
    assert capsys.readouterr().err == ""


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


def test_the_audit_reads_what_is_there_beside_the_training_images(opt_ml: Path, started: Start) -> None:
    """Without them, there is no variable, so it does not look for them."""
    names = ("SM_CHANNEL_TRAIN", "SM_CHANNEL_VALIDATION", "SM_CHANNEL_EVAL", "SM_CHANNEL_MODEL", "SM_OUTPUT_DATA_DIR")
    environ = started("audit").environ
    assert [environ.get(name) for name in names] == [
        f"{opt_ml}/input/data/train",
        *[None] * 3,
        f"{opt_ml}/output/data",
    ]
    for folder in ("input/data/validation", "input/data/eval", "model"):
        (opt_ml / folder).mkdir(parents=True)
    environ = started("audit").environ
    assert [environ.get(name) for name in names[1:4]] == [
        f"{opt_ml}/{folder}" for folder in ("input/data/validation", "input/data/eval", "model")
    ]


@pytest.mark.parametrize("name", ["hyperparameters", "resourceconfig", "inputdataconfig", "checkpointconfig"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_sagemaker_that_is_no_regular_one_is_one_sentence(
    opt_ml: Path, started: Start, name: str, kind: str
) -> None:
    make_strange(opt_ml / "input" / "config" / f"{name}.json", kind)
    with pytest.raises(ConfigError, match=f"{name}.json cannot be read"):
        started("train")


def test_a_deep_file_of_sagemaker_is_one_sentence(opt_ml: Path, started: Start) -> None:
    (opt_ml / "input" / "config" / "hyperparameters.json").write_text('{"a":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(ConfigError, match="nested more than 64 deep"):
        started("train")


def test_a_hyperparameter_that_linux_cannot_pass_is_one_sentence(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "hyperparameters", {"name": "x" * 131_064})  # with --name= and the zero byte, 128 kB
    assert started("train")
    write_config(opt_ml, "hyperparameters", {"name": "\u00e9" * 70_000})
    with pytest.raises(ConfigError, match="has 140007 bytes, expected at most 131071"):
        started("train")


def test_hyperparameters_that_are_too_long_together_start_the_job(opt_ml: Path, started: Start) -> None:
    """SM_HPS and SM_TRAINING_ENV hold all of them, and every character beyond ASCII as six."""
    given = {"name": "x" * 70_000, "criterion_args": ",".join(f"a{number}=\u00e9" for number in range(9_000))}
    write_config(opt_ml, "hyperparameters", given)
    call = started("train")
    assert all(len(os.fsencode(f"{name}={text}")) <= MAX_ARGUMENT_BYTES for name, text in call.environ.items())
    assert {f"--{name}={text}" for name, text in given.items()} <= set(call.words)
    assert call.environ["SM_HP_NAME"] == given["name"]


def test_a_checkpoint_folder_that_no_variable_can_name_is_one_sentence(opt_ml: Path, started: Start) -> None:
    write_config(opt_ml, "checkpointconfig", {"LocalPath": "/opt/ml/a\0b"})
    with pytest.raises(ConfigError, match=r"LocalPath is .* in checkpointconfig\.json"):
        started("train")
