"""audit.py: what was planted in drawn faces is found, and nothing else; the command runs like the others."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import audit
import demo
from config import TrainConfig
from data.out_of_fold import OutOfFold
from data.readers import READERS
from labels import LabelScheme
from runtime.errors import DataError
from support.smooth_images import as_jpeg, scaled
from train import train

SCRIPT = Path(audit.__file__)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def faces_drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    demo.main(["--output-dir", str(folder), "--people", "18", "--eval-people", "4", "--threads", "1"], {})
    return folder


@pytest.fixture
def data(faces_drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(faces_drawn, tmp_path / "data"))


def folders(data: Path, **more: Path) -> dict[str, str]:
    """Return the variables that `make audit` sets."""
    out = data.parent / "out"
    found = {
        "SM_CHANNEL_TRAIN": data / "train",
        "SM_CHANNEL_EVAL": data / "eval",
        "SM_CHANNEL_VALIDATION": data / "validation",
        "SM_CHANNEL_MODEL": out / "model",
        "SM_OUTPUT_DATA_DIR": out / "output",
        "SM_AUDIT_DIR": out / "audit",
    }
    return {name: str(path) for name, path in (found | more).items()}


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def findings(data: Path, *flags: str) -> Rows:
    audit.main(["--threads", "1", "--device", "cpu", *flags], folders(data))
    return rows_of(data.parent / "out/audit/audit.csv")


def of_kind(rows: Rows, word: str) -> set[tuple[str, ...]]:
    return {tuple(sorted(filter(None, (row["path"], row["other_path"])))) for row in rows if word in row["kind"]}


def test_planted_duplicates_in_drawn_faces_are_found_and_nothing_else(data: Path) -> None:
    """Seven images of one person, who wears another mask in each, are no duplicates."""
    assert of_kind(findings(data), "duplicate") == set()
    images = sorted(data.glob("train/*/*/*.jpg"))
    random.Random(0).shuffle(images)
    labelled = sorted(data.glob("eval/images/*.jpg"))
    planted = []
    for number, (source, target) in enumerate(zip(images[:20], [*images[20:36], *labelled[:4]], strict=True)):
        planted.append(tuple(sorted(path.relative_to(data).as_posix() for path in (source, target))))
        with Image.open(source) as image:
            target.write_bytes(
                (
                    source.read_bytes(),
                    as_jpeg(image, 60),
                    as_jpeg(scaled(image, 0.7)),
                    as_jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
                )[number % 4]
            )
    rows = findings(data)
    assert of_kind(rows, "exact_duplicate") == set(planted[::4])
    assert of_kind(rows, "near_duplicate") == {*planted[1::4], *planted[2::4]}
    assert of_kind(rows, "mirrored_duplicate") == set(planted[3::4])
    across = [row for row in rows if row["other_part"] == "eval"]
    assert len(across) == 4
    assert all("inflates the eval scores" in row["message"] for row in across)


def test_images_and_classes_that_teach_nothing_are_found(data: Path) -> None:
    images = sorted(data.glob("train/*/*/normal.jpg"))
    images[0].write_bytes(b"")
    Image.new("RGB", (384, 512), (90, 90, 90)).save(images[1])
    with Image.open(images[2]) as image:
        image.resize((24, 32)).save(images[2])
    with Image.open(images[3]) as image:
        image.resize((80, 700)).save(images[3])
    names = [(path.relative_to(data).as_posix(),) for path in images]
    rows = findings(data, "--min-images", "3")
    for number, kind in enumerate(("unreadable", "blank", "tiny", "extreme_shape")):
        assert of_kind(rows, kind) == {names[number]}
    few = {row["label"]: row["score"] for row in rows if row["kind"] == "few_images"}
    assert few
    assert all(float(score) < 3 for score in few.values())
    assert of_kind(rows, "duplicate") == set()


def test_labels_that_contradict_the_model_are_suspected(faces: Callable[..., Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(faces(24), data / "train")
    config = TrainConfig(
        epochs=12,
        batch_size=16,
        resize=(32, 24),
        model="TinyModel",
        optimizer="AdamW",
        lr=1e-2,
        val_ratio=0.5,
        schedule="onecycle",
        head="factored",
        device="cpu",
    )
    train(data / "train", tmp_path / "out/model", config, output_dir=tmp_path / "out/output")
    split = rows_of(tmp_path / "out/output/exp/split.csv")
    validation = [row["path"] for row in split if row["split"] == "val" and row["path"].endswith("normal.jpg")]
    swapped = [data / "train" / path for path in validation[:3]]
    for path in swapped:
        worn = path.with_name("mask1.jpg")
        contents = path.read_bytes(), worn.read_bytes()
        worn.write_bytes(contents[0])
        path.write_bytes(contents[1])
    planted = {(f"train/{path.relative_to(data / 'train')}",) for path in swapped}
    planted |= {(name.replace("normal.jpg", "mask1.jpg"),) for (name,) in planted}
    found = of_kind(findings(data), "suspected_label")
    assert len(found & planted) >= 4
    assert len(found - planted) <= 1


@pytest.mark.slow
def test_flipped_labels_among_drawn_faces_are_suspected_with_recall_and_precision(tmp_path: Path) -> None:
    """The model is trained on the wrong labels, too."""
    drawn, data = tmp_path / "drawn", tmp_path / "data"
    demo.main(["--output-dir", str(drawn), "--people", "120", "--eval-people", "2"], {})
    generator, flipped = random.Random(1), set()
    for path in sorted(drawn.glob("train/images/*/*.jpg")):
        if path.stem not in ("mask1", "mask2", "mask3", "normal"):
            continue
        label, other = ("worn", "not worn") if path.stem != "normal" else ("not worn", "worn")
        name = f"{path.parent.name}_{path.name}"
        if generator.random() < 0.04:
            flipped.add((f"train/{other}/{name}",))
        folder = data / "train" / (other if (f"train/{other}/{name}",) in flipped else label)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)
    config = TrainConfig(
        dataset="ImageFolderDataset",
        epochs=12,
        batch_size=16,
        resize=(48, 36),
        model="TinyModel",
        optimizer="AdamW",
        lr=3e-3,
        val_ratio=0.5,
        schedule="onecycle",
        device="cpu",
    )
    train(data / "train", tmp_path / "out/model", config, output_dir=tmp_path / "out/output")
    split = rows_of(tmp_path / "out/output/exp/split.csv")
    validated = {(f"train/{row['path']}",) for row in split if row["split"] == "val"}
    planted, found = flipped & validated, of_kind(findings(data), "suspected_label")
    print(f"planted={len(planted)}; found={len(found)}; right={len(found & planted)};")
    assert len(planted) >= 5
    assert len(found & planted) >= 0.8 * len(planted)
    assert len(found & planted) >= 0.8 * len(found)


def test_after_cross_validation_the_labels_of_all_images_are_compared_with_its_predictions(
    faces: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(faces(24), tmp_path / "data/train/images")
    output, samples = tmp_path / "out/output", READERS["MaskSplitByProfileDataset"](tmp_path / "data/train", "")
    paths, labels = samples.table["path"].tolist(), samples.labels
    wrong = [0, 40, 110]
    sure_of = labels.copy()
    sure_of[wrong] = (labels[wrong] + 6) % 18  # another mask
    probabilities = np.full((len(paths), 18), 0.001, np.float32)
    probabilities[np.arange(len(paths)), sure_of] = 0.983
    OutOfFold(paths[:-7], labels[:-7], np.ones(len(paths) - 7, np.int64), probabilities[:-7]).write(output / "oof.csv")
    (output / "cv.json").write_text(json.dumps({"scheme": samples.scheme.to_dict()}))
    found = of_kind(findings(tmp_path / "data"), "suspected_label")
    assert found == {(f"train/images/{paths[index]}",) for index in wrong}
    assert "labels are compared with oof.csv: 161 of 168 labelled images" in capsys.readouterr().err
    (output / "cv.json").write_text(json.dumps({"scheme": LabelScheme("pets", ("cat", "dog")).to_dict()}))
    with pytest.raises(DataError, match=r"oof\.csv is of other classes than those of the images \(2 instead of 18"):
        findings(tmp_path / "data")
    (output / "cv.json").unlink()
    with pytest.raises(DataError, match=r"cv\.json beside oof\.csv cannot be read"):
        findings(tmp_path / "data")


def test_the_command_prints_a_line_and_leaves_a_page(data: Path) -> None:
    """Before a training torch is not needed, so it is not imported."""
    (data.parent / "torch.py").write_text("raise RuntimeError('torch is imported')")
    environ = os.environ | folders(data) | {"PYTHONPATH": str(data.parent)}
    process = subprocess.run([sys.executable, SCRIPT], env=environ, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("images=154; train=126; validation=0; eval=28; exact_duplicate=0; near_")
    assert process.stdout.endswith(f"page: {data.parent}/out/audit/audit.html\n")
    assert process.stderr.startswith("SM_CHANNEL_VALIDATION is not a folder with files, so it is not read: ")
    assert "labels are suspected after a training only: there is no split.csv" in process.stderr
    assert sorted(path.name for path in (data.parent / "out/audit").iterdir()) == ["audit.csv", "audit.html"]


@pytest.mark.parametrize(
    ("option", "content"), [("validation-dir", "files"), ("eval-dir", "files"), ("labels-dir", "a manifest")]
)
def test_a_folder_that_is_named_and_not_there_is_named_in_the_log(
    data: Path, option: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    findings(data, f"--{option}", "/mistyped")
    variable = f"SM_CHANNEL_{option.removesuffix('-dir').upper()}"
    assert f"{variable} is not a folder with {content}, so it is not read: /mistyped\n" in capsys.readouterr().err


def test_a_folder_of_other_labels_does_not_count_as_that_of_a_manifest(data: Path) -> None:
    (labels := data / "labels").mkdir()
    (labels / "1.txt").write_text("0 0.5 0.5 1 1")
    assert findings(data, "--labels-dir", str(labels)) == findings(data)


def test_a_place_for_the_page_that_cannot_be_written_is_found_before_the_images_are_read(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        findings(data, "--audit-dir", str(data / "file" / "audit"))
    assert capsys.readouterr().err == "", "nothing was read"


def test_a_mistake_is_one_sentence_in_the_failure_file(tmp_path: Path) -> None:
    environ = folders(tmp_path / "missing") | {"SM_OUTPUT_DIR": str(tmp_path)}
    process = subprocess.run([sys.executable, SCRIPT], env=environ, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr == (tmp_path / "failure").read_text() + "\n"
    assert process.stderr.count("\n") == 1
    assert "SM_CHANNEL_TRAIN" in process.stderr


def test_help_names_every_option() -> None:
    process = subprocess.run([sys.executable, SCRIPT, "--help"], env={}, capture_output=True, text=True)
    for option in ("--data-dir", "--validation-dir", "--eval-dir", "--audit-dir", "--min-side", "--max-ratio"):
        assert option in process.stdout
