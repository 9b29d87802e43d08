"""The commands of the image, in one table. launch.py and contract.py take from it what they need. No torch.

A new command is an entry here, a link in the Dockerfile, a service in docker-compose.yml and a target in the Makefile;
tests/project/test_commands.py names whichever is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from config import TrainConfig, TrainPaths
from options.audit import AuditConfig, AuditPaths
from options.cv import CvConfig
from options.evaluation import EvaluationConfig, EvaluationPaths
from options.inference import InferenceConfig, InferencePaths

Inputs = Mapping[str, tuple[str, ...]]  # SM_* variable -> folders below /opt/ml it may name, the preferred one first


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command: the script behind it, its options, and the folders that SageMaker gives it."""

    name: str
    help: str
    script: str  # path in the repository, and in the image
    options: tuple[type[Any], ...] = ()  # dataclasses of its command line; without any, only the script checks it
    reads_hyperparameters: bool = False  # runs as a training job: hyperparameters become flags
    inputs: Inputs = field(default_factory=dict)
    optional_inputs: Inputs = field(default_factory=dict)  # no variable is set for one that does not exist
    processing_inputs: Inputs = field(default_factory=dict)
    processing_output: str = ""  # output folder on a processing job; empty: the command does not run as one


# `training` and `model` are the names that SageMaker's SDK gives to channels without a name.
_TRAIN_INPUTS: Inputs = {"SM_CHANNEL_TRAIN": ("input/data/train", "input/data/training")}
_MORE_TRAIN_INPUTS: Inputs = {
    "SM_CHANNEL_PRETRAINED": ("input/data/pretrained", "input/data/model"),
    "SM_CHANNEL_VALIDATION": ("input/data/validation",),
    "SM_CHANNEL_LABELS": ("input/data/labels",),
}
_ALL = (
    Command(
        name="train",
        help="train a network, and write the model",
        script="code/train.py",
        options=(TrainPaths, TrainConfig),
        reads_hyperparameters=True,
        inputs=_TRAIN_INPUTS,
        optional_inputs=_MORE_TRAIN_INPUTS,
    ),
    Command(
        name="cv",
        help="cross-validate, and write the ensemble of the folds",
        script="code/cv.py",
        options=(TrainPaths, CvConfig, TrainConfig),
        reads_hyperparameters=True,
        inputs=_TRAIN_INPUTS,
        optional_inputs=_MORE_TRAIN_INPUTS,
    ),
    Command(
        name="infer",
        help="label images, and write output.csv",
        script="code/inference.py",
        options=(InferencePaths, InferenceConfig),
        inputs={
            "SM_CHANNEL_EVAL": ("input/data/eval", "input/data/test"),
            "SM_CHANNEL_MODEL": ("input/data/model", "model"),
        },
        processing_inputs={
            "SM_CHANNEL_EVAL": ("processing/eval", "processing/test", "processing/data"),
            "SM_CHANNEL_MODEL": ("processing/model",),
        },
        processing_output="processing/predictions",
    ),
    Command(
        name="evaluate",
        help="compare output.csv with the ground truth",
        script="code/evaluation.py",
        options=(EvaluationPaths, EvaluationConfig),
        inputs={"SM_GROUND_TRUTH_DIR": ("input/data/ground_truth",)},
        processing_inputs={
            "SM_GROUND_TRUTH_DIR": ("processing/ground_truth",),
            "SM_PREDICTION_DIR": ("processing/predictions",),
        },
        processing_output="processing/evaluation",
    ),
    Command(
        name="audit",
        help="look for mistakes in the data",
        script="code/audit.py",
        options=(AuditPaths, AuditConfig),
        inputs={"SM_CHANNEL_TRAIN": ("input/data/train", "input/data/training")},
        optional_inputs={
            "SM_CHANNEL_VALIDATION": ("input/data/validation",),
            "SM_CHANNEL_EVAL": ("input/data/eval", "input/data/test"),
            "SM_CHANNEL_LABELS": ("input/data/labels",),
            "SM_CHANNEL_MODEL": ("input/data/model", "model"),
        },
    ),
    Command(name="serve", help="answer requests over HTTP, set up by SERVE_* variables", script="container/serve.py"),
)
COMMANDS = {command.name: command for command in _ALL}
