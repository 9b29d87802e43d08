"""A cross-validation against a real HTTP server that speaks AWS's protocol: its folds are joined, and resumed first."""

import io
import json
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

import moto.backends
import numpy as np
import pytest

from data.out_of_fold import OutOfFold
from runtime.errors import JobError
from support.aws_account import ACCOUNT, IMAGE, REGION, allowed_to_submitters, client, put
from support.serving import publish_model


def finish_fold(job: str, number: int, paths: list[str], folder: Path) -> None:
    """Put into S3 what the job of a fold writes: a model, and predictions for the images at `paths`."""
    publish_model(folder / "model", seed=number, settings={"fold": f"{number}/2"})
    probabilities = np.random.default_rng(number).dirichlet(np.ones(18), len(paths)).astype(np.float32)
    labels, folds = np.zeros(len(paths), np.int64), np.full(len(paths), number)
    OutOfFold(paths, labels, folds, probabilities).write(folder / "output/exp/predictions.csv")
    for part in ("model", "output"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder / part, ".")
        put(f"s3://my-bucket/mask-classifier/training/{job}/output/{part}.tar.gz", buffer.getvalue())


def test_the_folds_of_a_cross_validation_are_downloaded_and_joined(
    ready: Callable[..., list[str]],
    faces: Callable[..., Path],
    tmp_path: Path,
    calls: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, quick = faces(people=4), ("--poll-seconds", "0", "--wait")
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path))  # of another run on this machine
    monkeypatch.setenv("SM_CHANNEL_VALIDATION", str(tmp_path))
    calls.clear()
    (name,) = ready("cv", "--data", str(data), "--image", IMAGE, "--folds", "2", *quick, "--", "--epochs", "3")
    titles = [f"training job '{name}-fold-{number}'" for number in (1, 2)]
    for command in (("status", name), ("wait", name, "--poll-seconds", "0")):
        assert [line.partition("  ")[0] for line in ready(*command)] == titles
    with pytest.raises(JobError, match=f"{name}-fold-1' has already ended: Completed; training job .*-fold-2' has"):
        ready("stop", name)
    with pytest.raises(JobError, match=f"there is no file in S3|{name}-fold-1' has no model.tar.gz"):
        ready("download", name, "--to", str(tmp_path / "got"))
    paths = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))
    for number in (1, 2):
        described = client("sagemaker").describe_training_job(TrainingJobName=f"{name}-fold-{number}")
        assert described["HyperParameters"] == {"epochs": "3", "fold": f"{number}/2", "recipe": "scratch"}
        finish_fold(f"{name}-fold-{number}", number, paths[number - 1 :: 2], tmp_path / f"{number}")
    found = ready("download", name, "--to", str(tmp_path / "got"))
    assert found == [str(tmp_path / "got/model"), str(tmp_path / "got/output")]
    assert OutOfFold.read(tmp_path / "got/output/oof.csv").paths == paths
    record = json.loads((tmp_path / "got/model/model.json").read_text())
    assert len(record["members"]) == 2
    assert (tmp_path / "got/output/cv.json").exists()
    assert calls <= allowed_to_submitters()


def test_a_fold_that_failed_is_resumed_by_the_command_that_is_named_and_joined_with_the_others(
    ready: Callable[..., list[str]], faces: Callable[..., Path], tmp_path: Path, calls: set[str]
) -> None:
    data, quick = faces(people=4), ("--poll-seconds", "0")
    paths = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))
    calls.clear()
    (name,) = ready("cv", "--data", str(data), "--image", IMAGE, "--folds", "2", "--", "--epochs", "3")
    finish_fold(f"{name}-fold-1", 1, paths[::2], tmp_path / "1")
    put(f"s3://my-bucket/mask-classifier/checkpoints/{name}-fold-2/step-000000001.json", b"{}")
    jobs = moto.backends.get_backend("sagemaker")[ACCOUNT][REGION].training_jobs
    jobs[f"{name}-fold-2"].training_job_status = "Failed"
    for words in (("wait", name, *quick), ("download", name, "--to", str(tmp_path / "got"))):
        with pytest.raises(
            JobError, match=f"--resume-from {name}-fold-2 -- --epochs 3 --fold 2/2 .*` resumes"
        ) as caught:
            ready(*words)
    (command,) = re.findall(r"`submit.py train ([^`]*)` resumes", str(caught.value))
    (resumed,) = ready("train", "--image", IMAGE, *shlex.split(command))
    finish_fold(resumed, 2, paths[1::2], tmp_path / "2")
    titles = [f"training job '{job}'" for job in (f"{name}-fold-1", resumed)]
    for watching in (("status", name), ("wait", name, *quick)):
        assert [line.partition("  ")[0] for line in ready(*watching)] == titles
    ready("download", name, "--to", str(tmp_path / "got"))
    assert OutOfFold.read(tmp_path / "got/output/oof.csv").paths == paths
    assert len(json.loads((tmp_path / "got/model/model.json").read_text())["members"]) == 2
    assert calls <= allowed_to_submitters()
