"""Cross-validation predicts every image once, by a model that has not seen it, and publishes one ensemble."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cv
from config import TrainConfig, TrainPaths
from data.images import prepare
from inference import inference
from model_files import load
from options.cv import CvConfig
from options.inference import InferenceConfig
from predictor import Predictor
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError
from server.settings import ServeConfig
from support.drawing import draw_faces, draw_image
from support.processes import Process, wait_until
from support.serving import InProcess
from support.several_labels import planted
from training.folds import Fold

CODE = Path(__file__).parents[1] / "code"
MOST_SECONDS = 600.0  # for work of seconds, on a machine with much other work
FLAGS = (
    "--model TinyModel --resize 32 24 --batch-size 8 --lr 0.01 --device cpu --precision fp32 --threads 1 "
    "--checkpoint-steps 1 --min-precision 0.3"
)


class Cv:
    """Cross-validation of a folder of images, as a command of its own; its files are in `folder`."""

    def __init__(self, folder: Path, data: Path, flags: str = "", folds: int = 2) -> None:
        self.folder, self.flags, self.folds = folder, f"--folds {folds} {FLAGS} {flags}", folds
        self.model, self.output = folder / "model", folder / "output"
        self.environ = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "error",
            "SM_CHANNEL_TRAIN": str(data),
            "SM_MODEL_DIR": str(self.model),
            "SM_OUTPUT_DIR": str(folder / "job"),
            "SM_OUTPUT_DATA_DIR": str(self.output),
            "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
            "SM_STORE_DIR": str(folder / "store"),
        }
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen[str]:
        with (self.folder / "log").open("a") as log:
            line = [sys.executable, str(CODE / "cv.py"), *self.flags.split()]
            return Process(line, env=self.environ, stdout=log, stderr=subprocess.STDOUT, text=True)

    def run(self) -> int:
        with self.start() as process:
            return process.wait(MOST_SECONDS)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def fold(self, number: int) -> Fold:
        return Fold(number, self.folds, self.output / "cv")

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.output / "oof.csv", dtype={"path": str})

    def split(self, number: int) -> dict[str, str]:
        with next(self.fold(number).output_dir.glob("*/split.csv")).open() as file:
            return {row["path"]: row["split"] for row in csv.DictReader(file)}

    def digests(self) -> dict[str, str]:
        """Return the sha256 of every file that must have the same bits, by its path."""
        names = ("oof.csv", "cv.json", "predictions.csv", "metrics.jsonl", "metrics.json", "model.json")
        paths = [path for path in self.folder.rglob("*") if path.name in (*names, "model.safetensors", "split.csv")]
        found = {path.relative_to(self.folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
        return {str(name): digest for name, digest in found.items() if name.parts[0] != "checkpoints"}


@pytest.fixture(scope="module")
def whole(module_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Cv:
    """Cross-validate twelve drawn people once, without an interruption; the tests only read its files."""
    found = Cv(tmp_path_factory.mktemp("cv") / "whole", module_faces)
    assert found.run() == 0, found.log
    return found


def test_every_image_is_predicted_once_by_a_model_that_has_not_seen_its_person(whole: Cv, module_faces: Path) -> None:
    table = whole.table()
    files = sorted(path.relative_to(module_faces).as_posix() for path in module_faces.rglob("*.jpg"))
    assert list(table["path"]) == files
    for number in (1, 2):
        split, own = whole.split(number), set(table["path"][table["fold"] == number])
        assert own == {path for path, part in split.items() if part == "val"}
        people = {path.split("/")[0] for path in own}
        assert not people & {path.split("/")[0] for path, part in split.items() if part == "train"}
        model, description = load(whole.fold(number).model_dir)
        temperature = description.temperature
        predictor = Predictor(model, description.preparation, torch.device("cpu"), None, temperature=temperature)
        rows = table[table["fold"] == number].head(9)
        pixels = np.stack([prepare(module_faces / path, description.preparation) for path in rows["path"]])
        expected = rows.filter(like="probability_").to_numpy(np.float32)
        np.testing.assert_allclose(predictor.probabilities(pixels), expected, rtol=1e-4, atol=1e-6)
        assert list(rows["predicted"]) == expected.argmax(1).tolist()


def test_the_ensemble_of_the_folds_is_the_model(whole: Cv) -> None:
    _, description = load(whole.model)
    members = [load(whole.fold(number).model_dir)[1] for number in (1, 2)]
    assert list(description.members) == members
    summary = json.loads((whole.output / "cv.json").read_text())
    assert description.metrics == summary["oof"]
    assert summary["oof"]["accuracy"] == pytest.approx((whole.table()["label"] == whole.table()["predicted"]).mean())
    assert [member.settings["fold"] for member in members] == ["1/2", "2/2"]


def test_unsure_predictions_of_the_ensemble_are_those_that_are_often_wrong_out_of_fold(
    whole: Cv, module_faces: Path, tmp_path: Path
) -> None:
    table, (_, description) = whole.table(), load(whole.model)
    thresholds = description.unsure_thresholds
    assert thresholds is not None
    limits = np.array(thresholds.thresholds)
    sure = table.filter(like="probability_").max(axis=1) >= limits[table["predicted"]]
    right = (table["predicted"] == table["label"])[sure].groupby(table["predicted"]).mean()
    assert 0 < sure.sum() < len(table)
    assert (right >= 0.3).all()
    assert f"\n{sure.sum()} of 84 validation images are sure, with a precision of 0.3\n" in whole.log
    assert f"  {sure.sum()} of 84 predictions are sure, and" in (whole.output / "cv/report/report.html").read_text()

    images = tmp_path / "eval/images"
    images.mkdir(parents=True)
    for number, path in enumerate(table["path"][:30]):
        shutil.copy(module_faces / path, images / f"{number}.jpg")
    names = [f"{number}.jpg" for number in range(30)]
    pd.DataFrame({"ImageID": names}).to_csv(tmp_path / "eval/info.csv", index=False)
    asked = InferenceConfig(device="cpu", status=True, save_probabilities=True)
    found = pd.read_csv(inference(tmp_path / "eval", whole.model, tmp_path / "labelled", asked))
    is_unsure = found.filter(like="probability_").max(axis=1) < limits[found["ans"]]
    assert (found["status"] == np.where(is_unsure, "unsure", "ok")).all()
    with InProcess(ServeConfig(model_dir=whole.model, device="cpu")) as server:
        server.until_ready()
        responses = [server.post((images / name).read_bytes()).json()["unsure"] for name in names]
    assert responses == is_unsure.tolist()


def test_the_log_ends_with_the_scores_and_where_the_files_are(whole: Cv) -> None:
    first, second, last = whole.log.splitlines()[-3:]
    assert first.startswith("fold=1; images=42; accuracy=")
    assert second.startswith("fold=2; images=42; accuracy=")
    assert last.startswith("folds=2; images=84; mean_accuracy=")
    assert last.endswith(f"predictions: {whole.output / 'oof.csv'}; ensemble: {whole.model}")
    page = (whole.output / "cv/report/report.html").read_text()
    assert page.count('alt="heat map: most heat at the ') >= 24, "of the mistakes, each by the model of its fold"


def test_images_are_decoded_once_for_all_folds(whole: Cv) -> None:
    (manifest,) = (whole.folder / "store").glob("*.json")
    first_model = whole.fold(1).model_dir / "model.json"
    assert manifest.stat().st_mtime_ns > first_model.stat().st_mtime_ns, "the second fold has used the store"
    assert manifest.with_suffix(".pixels").stat().st_mtime_ns < first_model.stat().st_mtime_ns, "and not written it"


def test_folds_that_lie_there_are_joined_without_training_them(
    whole: Cv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--output-dir", str(whole.output), "--model-dir", str(tmp_path / "model")]
    before = (whole.output / "oof.csv").read_bytes()
    cv.main(["--folds", "2", "--collect", "--recipe", "auto", *paths], {})
    assert "recipe: scratch (no weights to start from)" in capsys.readouterr().out
    assert (whole.output / "oof.csv").read_bytes() == before
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (whole.model / name).read_bytes()
    again = ["--folds", "2", "--collect", "--min-precision", "0.9", *paths]
    cv.main(again, {})
    record = json.loads((tmp_path / "model/model.json").read_text())
    assert record["unsure_thresholds"]["min_precision"] == 0.9
    assert "warning: the report is not written again without the images" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1 of 3 folds are not complete, expected output/\*/predictions\.csv"):
        cv.main(["--folds", "3", "--collect", *paths], {})


def test_the_number_of_folds_to_join_is_that_of_those_that_are_there(whole: Cv, tmp_path: Path) -> None:
    output = Path(shutil.copytree(whole.output, tmp_path / "output"))
    paths = ["--collect", "--output-dir", str(output), "--model-dir", str(tmp_path / "model")]
    cv.main(paths, {})
    assert (output / "oof.csv").read_bytes() == (whole.output / "oof.csv").read_bytes()
    for number in (1, 2):  # as if two of three folds had been copied here
        path = output / f"cv/fold-{number}/model/model.json"
        path.write_text(path.read_text().replace(f'"fold": "{number}/2"', f'"fold": "{number}/3"'))
    before = (output / "oof.csv").read_bytes(), (tmp_path / "model/model.json").read_bytes()
    with pytest.raises(ConfigError, match=r"^fold-1 is part 1/3, expected 1/2; pass --folds 3, or train all"):
        cv.main(["--folds", "2", *paths], {})
    with pytest.raises(DataError, match="1 of 3 folds are not complete"):
        cv.main(paths, {})
    assert ((output / "oof.csv").read_bytes(), (tmp_path / "model/model.json").read_bytes()) == before
    shutil.rmtree(output / "cv/fold-1/model")
    with pytest.raises(DataError, match=r"^fold-1 has no model that can be read \(No such file or directory\), expe"):
        cv.main(paths, {})


def test_the_report_of_joined_folds_has_their_thresholds_if_the_images_are_there(
    whole: Cv, module_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(whole.output, tmp_path / "output"))
    page, model = output / "cv/report/report.html", tmp_path / "model"
    paths = ["--collect", "--output-dir", str(output), "--model-dir", str(model), "--device", "cpu"]
    before = page.read_text()
    cv.main([*paths, "--min-precision", "0.9", "--data-dir", str(module_faces)], {})
    sure = re.search(r"\n(\d+) of 84 validation images are sure, with a precision of 0\.9\n", capsys.readouterr().out)
    assert sure
    assert f"  {sure[1]} of 84 predictions are sure, and" in page.read_text()
    assert page.read_text() != before
    others = draw_faces(tmp_path / "others", 4)
    with pytest.raises(DataError, match=r"images of the folds are not in the training folder .*; give the folder"):
        cv.main([*paths, "--data-dir", str(others)], {})


def test_folds_that_were_trained_for_different_precisions_are_an_error(tmp_path: Path) -> None:
    folds = [Fold(number, 3, tmp_path) for number in (1, 2, 3)]
    for fold, settings in zip(folds, ({"min_precision": 0.9}, {"min_precision": 0.9}, {}), strict=True):
        fold.model_dir.mkdir(parents=True)
        (fold.model_dir / "model.json").write_text(json.dumps({"settings": settings}))
    assert cv.precision_of(folds[:2]) == 0.9
    with pytest.raises(DataError, match=r"different values of --min-precision \(0.0, 0.9\); give the one for the ens"):
        cv.precision_of(folds)


@pytest.mark.slow
def test_what_is_killed_and_stopped_in_any_fold_resumes_and_ends_with_the_same_files(
    whole: Cv, module_faces: Path, tmp_path: Path
) -> None:
    job = Cv(tmp_path / "killed", module_faces)
    for fold, step, number in (
        ("fold-1", 1, signal.SIGKILL),
        ("fold-2", 1, signal.SIGTERM),
        ("fold-2", 3, signal.SIGKILL),
    ):
        with job.start() as process:
            wait_for_step(job.folder / "checkpoints" / fold, step, process)
            process.send_signal(number)
            code = process.wait(MOST_SECONDS)
        assert code == (-number if number == signal.SIGKILL else 128 + number), job.log
        assert not (job.output / "cv.json").exists()
        assert not (job.model / "model.json").exists()
    assert "stopped in fold 2 of 2; the same command resumes" in job.log
    assert job.run() == 0, job.log
    assert "resumed at epoch" in job.log
    assert job.digests() == whole.digests()
    assert job.run() == 0, job.log
    assert job.digests() == whole.digests(), "a command that has nothing left to train"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["classes", "groups"])
def test_classes_and_groups_are_cross_validated_also_with_several_workers(layout: str, tmp_path: Path) -> None:
    data, rows = tmp_path / "data", ["path,label,group"]
    for number in range(24):
        name = ("cat", "dog")[number % 2]
        (data / name).mkdir(parents=True, exist_ok=True)
        draw_image(number % 2, number).save(data / name / f"{number}.jpg")
        rows.append(f"{name}/{number}.jpg,{name},{number // 3}")
    if layout == "groups":
        (data / "labels.csv").write_text("\n".join(rows))
    job = Cv(tmp_path / "job", data, "--nproc-per-node 2" if layout == "groups" else "", folds=3)
    if layout == "classes":
        del job.environ["SM_STORE_DIR"]
    assert job.run() == 0, job.log
    assert not (job.output / "cv/store").exists(), "decoded images are not kept unless they are asked for"
    table = job.table()
    assert sorted(table["path"]) == sorted(row.partition(",")[0] for row in rows[1:])
    if layout == "groups":
        table["group"] = table["path"].map(dict(row.split(",")[::2] for row in rows[1:]))
        assert (table.groupby("group")["fold"].nunique() == 1).all()
    assert len(load(job.model)[1].members) == 3


@pytest.mark.slow
def test_the_reason_of_a_fold_that_fails_is_the_reason_of_the_job(faces: Callable[..., Path], tmp_path: Path) -> None:
    data = faces(4)
    next(data.rglob("*.jpg")).write_bytes(b"junk")
    job = Cv(tmp_path / "job", data)
    assert job.run() == 1
    assert (tmp_path / "job/job/failure").read_text().startswith("DataError: 1 of 28 images cannot be used")
    job.flags += " --on-bad-image skip --max-bad-ratio 1"
    assert job.run() == 0, job.log
    assert len(job.table()) == 27


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a checkpoint of a step is in a folder, or the process has ended."""
    pattern = re.compile(r"step-(\d+)-.*\.json")

    def is_there() -> bool:
        steps = [int(found[1]) for path in folder.glob("*") if (found := pattern.fullmatch(path.name))]
        return max(steps, default=0) >= step or process.poll() is not None

    wait_until(is_there, MOST_SECONDS)


# what is rejected, before anything is trained


def rejected(data: Path, *words: str, **environ: str) -> str:
    """Return the message of the error that the command ends with."""
    output = data.parent / "rejected"
    given = ["--data-dir", str(data), "--output-dir", str(output), "--model-dir", str(output / "model")]
    with pytest.raises((ConfigError, DataError)) as caught:
        cv.main([*given, *words], environ)
    assert not list(output.rglob("*.json"))
    return str(caught.value)


def test_data_that_comes_with_a_split_is_rejected(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            draw_image(number, 0).save(tmp_path / "data" / part / name / "1.jpg")
    found = rejected(tmp_path / "data", "--folds", "2")
    assert found.startswith("the data comes with a split, and cross-validation makes its own; use train, or pass")
    found = rejected(tmp_path / "data", SM_CHANNEL_VALIDATION="/data")
    assert "--validation-dir (SM_CHANNEL_VALIDATION)" in found
    assert "leave it out (`make cv`: move the folder out of DATA), or use train.py (`make train`): /data" in found


def test_images_with_several_labels_are_rejected(tmp_path: Path) -> None:
    planted(tmp_path / "data", 6)
    found = rejected(tmp_path / "data")
    assert found.startswith("cross-validation is for one label of each image, and these have several; use train.py")
    assert "is for one label of each image" not in rejected(tmp_path / "data", "--task", "single", "--folds", "7")


def test_more_folds_than_people_or_images_are_rejected(faces: Callable[..., Path], tmp_path: Path) -> None:
    data = faces(4)
    assert rejected(data, "--folds", "5").startswith("--folds 5 is more than the 4 people or groups there are")
    assert rejected(data, "--folds", "29", "--dataset", "MaskBaseDataset").startswith(
        "--folds 29 is more than the 28 im"
    )


def test_options_that_contradict_it_are_rejected(faces: Callable[..., Path]) -> None:
    data = faces(4)
    assert "--fold: cross-validation trains every fold" in rejected(data, "--fold", "1/5")
    hosts = {"SM_HOSTS": '["algo-1","algo-2"]', "SM_CURRENT_HOST": "algo-1"}
    assert "submit.py cv starts a job for each fold" in rejected(data, **hosts)
    assert "unknown argument '--epoch'" in rejected(data, "--epoch", "3")
    assert "--folds: 1 is out of range" in rejected(data, "--folds", "1")


def test_options_of_training_are_passed_on_as_they_were_given() -> None:
    given = ["--folds", "3", "--resize", "96", "72", "--data_dir=/a b", "--lr=0.1", "--model-dir", "m", "--optimizer"]
    words = cv.words_for_training([*given, "SGD", "--collect", "--deterministic"])
    assert words == ["--resize", "96", "72", "--lr=0.1", "--optimizer", "SGD", "--deterministic"]
    paths, config, options = parse("cv.py", [*given, "SGD"], {}, TrainPaths, CvConfig, TrainConfig)
    assert parse("train.py", words[:-1], {}, TrainConfig) == (replace(options),)
    assert (paths.data_dir, config.folds) == (Path("/a b"), 3)
