"""Every row gets its own prediction or none, in the order of info.csv, and the model alone describes preparation."""

import errno
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from data import digests
from data.fitting import FITS
from data.images import EXTENSIONS, Preparation
from dataset import TestDataset
from description import Description
from inference import inference, load_model
from labels import MASKED_FACES, LabelScheme
from model import BaseModel, TinyModel
from model_files import load, publish
from options.inference import InferenceConfig
from runtime.errors import ConfigError, DataError, ModelError
from runtime.journal import Journal
from support.archives import archive_of
from support.preloaded import completed

CODE = Path(__file__).parents[1] / "code"
QUICK = InferenceConfig(device="cpu", batch_size=8)
EvalFolder = Callable[..., tuple[Path, list[int]]]


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    description = Description("TinyModel", "joint", MASKED_FACES, Preparation((32, 24), (60, 44)))
    publish(tmp_path / "model", description.build().state_dict(), description)
    return tmp_path / "model"


def predictions(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def test_rows_and_their_order_are_those_of_info_csv(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    data, _ = eval_folder()
    table = predictions(inference(data, model_dir, tmp_path / "output", QUICK))
    assert list(table.columns) == ["ImageID", "ans"]
    assert list(table["ImageID"]) == list(predictions(data / "info.csv")["ImageID"])
    assert table["ans"].astype(int).between(0, 17).all()


def test_other_columns_are_kept_as_they_were_written(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    data, _ = eval_folder(6)
    table = predictions(data / "info.csv").assign(camera="007", note="a, b", empty="")
    table.to_csv(data / "info.csv", index=False)
    found = predictions(inference(data, model_dir, tmp_path / "output", QUICK))
    pd.testing.assert_frame_equal(found.drop(columns="ans"), table.drop(columns="ans"))


def test_a_prediction_does_not_depend_on_its_batch(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    data, _ = eval_folder(12)
    found = [
        predictions(inference(data, model_dir, tmp_path / f"{size}", replace(QUICK, batch_size=size, threads=threads)))
        for size, threads in ((1, 1), (5, 2), (100, 4))
    ]
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


@pytest.mark.parametrize("fit", FITS)
def test_pixels_are_prepared_as_training_prepares_them(eval_folder: EvalFolder, fit: str, tmp_path: Path) -> None:
    data, _ = eval_folder(9)
    torch.manual_seed(3)
    description = Description("TinyModel", "joint", MASKED_FACES, Preparation((32, 24), (60, 30), fit=fit))
    model_dir = tmp_path / "model"
    publish(model_dir, description.build().state_dict(), description)
    table = pd.read_csv(inference(data, model_dir, tmp_path, replace(QUICK, save_probabilities=True)))
    dataset = TestDataset([data / "images" / name for name in table["ImageID"]], (32, 24), crop=(60, 30), fit=fit)
    with torch.inference_mode():
        expected = load_model(model_dir)(torch.stack([dataset[index] for index in range(9)])).softmax(1).numpy()
    np.testing.assert_allclose(table.filter(like="probability_").to_numpy(), expected, atol=1e-5)
    assert (table["ans"] == expected.argmax(1)).all()


def test_a_folder_of_every_format_is_labelled(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    for ending in EXTENSIONS:
        Image.new("RGB", (48, 64), (200, 90, 10)).save(tmp_path / f"eval/a{ending}")
    table = predictions(inference(tmp_path / "eval", model_dir, tmp_path / "output", replace(QUICK, status=True)))
    assert list(table["ImageID"]) == sorted(f"a{ending}" for ending in EXTENSIONS)
    assert set(table["status"]) == {"ok"}
    assert table["ans"].nunique() == 1


def test_convolutions_are_deterministic(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    inference(eval_folder(2)[0], model_dir, tmp_path / "output", QUICK)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_a_bad_image_keeps_its_row_and_never_gets_the_prediction_of_another(
    eval_folder: EvalFolder, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = eval_folder(10)
    config = replace(QUICK, save_probabilities=True, status=True)
    before = predictions(inference(data, model_dir, tmp_path / "before", config))
    names = list(before["ImageID"])
    (data / "images" / names[2]).write_bytes(b"")
    (data / "images" / names[5]).write_bytes((data / "images" / names[5]).read_bytes()[:300])
    (data / "images" / names[7]).unlink()
    after = predictions(inference(data, model_dir, tmp_path / "after", config))
    assert list(after["status"]) == [
        {2: "empty", 5: "undecodable_image", 7: "missing"}.get(index, "ok") for index in range(10)
    ]
    assert (after.loc[[2, 5, 7]].drop(columns=["ImageID", "status"]) == "").all(axis=None)
    readable = [index for index in range(10) if index not in (2, 5, 7)]
    pd.testing.assert_frame_equal(after.loc[readable], before.loc[readable])
    said = capsys.readouterr().err
    assert all(names[index] in said for index in (2, 5, 7))


def test_a_bad_image_stops_the_job_if_asked_to(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    data, _ = eval_folder(4)
    next((data / "images").iterdir()).write_bytes(b"junk")
    with pytest.raises(DataError, match="1 of 4 images"):
        inference(data, model_dir, tmp_path / "output", replace(QUICK, on_bad_image="error"))
    assert list((tmp_path / "output").iterdir()) == []


def test_a_folder_without_any_usable_image_is_an_error(
    eval_folder: EvalFolder, model_dir: Path, tmp_path: Path
) -> None:
    data, _ = eval_folder(3)
    for path in (data / "images").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="none of the 3 images"):
        inference(data, model_dir, tmp_path / "output", QUICK)
    assert list((tmp_path / "output").iterdir()) == []


def test_without_info_csv_every_image_of_the_folder_is_labelled(
    eval_folder: EvalFolder, model_dir: Path, tmp_path: Path
) -> None:
    data, _ = eval_folder(5)
    (data / "info.csv").unlink()
    (data / "notes.txt").write_text("no image")
    table = predictions(inference(data, model_dir, tmp_path / "output", QUICK))
    assert list(table["ImageID"]) == sorted(f"images/{path.name}" for path in (data / "images").iterdir())


def test_flags_must_not_contradict_the_model(eval_folder: EvalFolder, model_dir: Path, tmp_path: Path) -> None:
    data, _ = eval_folder(3)
    with pytest.raises(ConfigError, match="contradicts the model"):
        inference(data, model_dir, tmp_path, replace(QUICK, resize=(128, 96)))
    with pytest.raises(ConfigError, match="contradicts the model"):
        inference(data, model_dir, tmp_path, replace(QUICK, model="BaseModel"))
    inference(data, model_dir, tmp_path, replace(QUICK, resize=(32, 24), model="TinyModel"))


def test_an_old_best_pth_labels_with_the_size_it_was_trained_at(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(3)
    (tmp_path / "old").mkdir()
    torch.save(BaseModel(18).state_dict(), tmp_path / "old/best.pth")
    inference(data, tmp_path / "old", tmp_path / "output", replace(QUICK, resize=(48, 40)))


def test_other_classes_are_described_beside_the_predictions(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(4)
    scheme = LabelScheme("folders", ("cat", "dog"))
    description = Description("TinyModel", "joint", scheme, Preparation((32, 24)))
    publish(tmp_path / "pets", description.build().state_dict(), description)
    output = inference(data, tmp_path / "pets", tmp_path / "output", QUICK)
    assert '"dog"' in (output.parent / "scheme.json").read_text()


@pytest.mark.parametrize("config", [replace(QUICK, save_probabilities=True, status=True), QUICK])
def test_a_job_that_was_stopped_resumes_and_leaves_the_same_bytes(
    eval_folder: EvalFolder,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: InferenceConfig,
) -> None:
    data, _ = eval_folder(30)
    next((data / "images").iterdir()).write_bytes(b"junk")
    whole = inference(data, model_dir, tmp_path / "whole", config).read_bytes()

    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        inference(data, model_dir, tmp_path / "output", config)
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["output.csv.journal"]
    monkeypatch.undo()
    capsys.readouterr()
    assert inference(data, model_dir, tmp_path / "output", config).read_bytes() == whole
    assert "resumed after 2 of 4 batches" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["output.csv"]


@pytest.mark.parametrize("change", ["model", "image", "batch_size"])
def test_predictions_of_another_model_other_images_or_other_batches_are_not_resumed(
    eval_folder: EvalFolder,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    data, _ = eval_folder(30)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        inference(data, model_dir, tmp_path / "output", QUICK)
    monkeypatch.undo()
    if change == "model":
        description = load(model_dir)[1]
        publish(model_dir, description.build().state_dict(), description)
    elif change == "image":
        victim = data / "images" / predictions(data / "info.csv")["ImageID"][0]
        victim.write_bytes(victim.read_bytes() + b"0")
    config = replace(QUICK, batch_size=4 if change == "batch_size" else 8)
    found = inference(data, model_dir, tmp_path / "output", config).read_bytes()
    assert "resumed" not in capsys.readouterr().out
    assert found == inference(data, model_dir, tmp_path / "whole", config).read_bytes()


def test_an_image_that_was_replaced_under_the_same_name_size_and_time_is_predicted_again(
    eval_folder: EvalFolder,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, _ = eval_folder(30)
    names = list(predictions(data / "info.csv")["ImageID"])
    paths = [data / "images" / name for name in names]
    for path in paths:  # uncompressed, so all have one size
        Image.open(path).convert("RGB").save(path, "BMP")
        os.utime(path, (1, 1))
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        inference(data, model_dir, tmp_path / "output", QUICK)
    monkeypatch.undo()
    paths[8].write_bytes(paths[0].read_bytes())  # in the second batch
    os.utime(paths[8], (1, 1))
    found = inference(data, model_dir, tmp_path / "output", QUICK).read_bytes()
    assert "resumed after 1 of 4 batches" in capsys.readouterr().out
    assert found == inference(data, model_dir, tmp_path / "whole", QUICK).read_bytes()


def test_resuming_reads_only_the_files_that_were_predicted(
    eval_folder: EvalFolder, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = eval_folder(30)
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        inference(data, model_dir, tmp_path / "output", QUICK)
    monkeypatch.undo()
    read: list[Path] = []

    def spy(path: Path) -> bytes:
        read.append(path)
        return digests.content_digest(path.read_bytes())

    monkeypatch.setattr(digests, "file_digest", spy)
    inference(data, model_dir, tmp_path / "output", QUICK)
    assert sorted(path.name for path in read) == sorted(predictions(data / "info.csv")["ImageID"][:8])


def test_predictions_survive_a_full_disk(
    eval_folder: EvalFolder,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, _ = eval_folder(20)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            inference(data, model_dir, tmp_path, QUICK)
    inference(data, model_dir, tmp_path, QUICK)
    assert "resumed after 3 of 3 batches" in capsys.readouterr().out


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Make the next inference end after `batches` batches."""
    append = Journal.append

    def append_or_stop(journal: Journal, record: object) -> None:
        nonlocal batches
        if batches == 0:
            raise KeyboardInterrupt
        batches -= 1
        append(journal, record)

    monkeypatch.setattr(Journal, "append", append_or_stop)


def test_without_memory_for_a_batch_micro_batches_give_the_same_predictions(
    eval_folder: EvalFolder,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, _ = eval_folder(20)
    whole = inference(data, model_dir, tmp_path / "whole", QUICK).read_bytes()
    forward = TinyModel.forward

    def small(self: TinyModel, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, images)

    monkeypatch.setattr(TinyModel, "forward", small)
    assert inference(data, model_dir, tmp_path / "output", QUICK).read_bytes() == whole
    assert re.findall(r"no memory.*micro-batches of (\d+) images", capsys.readouterr().err) == ["4", "2"]


def test_load_model_checks_the_number_of_classes(model_dir: Path) -> None:
    assert load_model(model_dir, 18)(torch.zeros(1, 3, 32, 24)).shape == (1, 18)
    with pytest.raises(ModelError, match="18 classes, expected 3"):
        load_model(model_dir, 3)


def test_the_command_of_the_original_runs_verbatim_and_reads_an_archive(
    eval_folder: EvalFolder, model_dir: Path, tmp_path: Path
) -> None:
    data, _ = eval_folder(6)
    archive_of(model_dir, tmp_path / "model.tar.gz")
    environ = {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "SM_CHANNEL_EVAL": str(data),
        "SM_CHANNEL_MODEL": str(tmp_path / "model.tar.gz"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
    }
    line = [sys.executable, "-W", "error", str(CODE / "inference.py")]
    done = completed(line, environ)
    assert done.returncode == 0, done.stderr
    assert len(predictions(tmp_path / "output/output.csv")) == 6
