"""Several workers as processes: they resume from each other, and whatever goes wrong with one ends all in one way."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.worker_pool import Ending, WorkerPool

QUICK = (
    "--epochs 2 --batch-size 9 --valid-batch-size 8 --resize 32 24 --val-ratio 0.5 --lr 0.003 --device cpu --threads 1 "
    "--checkpoint-steps 1 --log-interval 1 --model TinyModel --optimizer AdamW --augmentation StrongAugmentation "
)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(3) as processes:
        yield processes


def model(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model/model.safetensors").read_bytes(), (folder / "output/exp/metrics.jsonl").read_bytes()


def parts_of(folder: Path) -> int:
    return int(json.loads((folder / "output/exp/config.json").read_text())["parts"])


@pytest.mark.slow
def test_runs_resume_on_any_number_of_workers_and_keep_their_parts(
    pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    """A run in eight parts and one in a single part are stopped, and resumed on another number of workers."""
    for parts, network, sizes in ((8, "BaseModel", (3, 1, 2)), (1, "TinyModel", (1, 2))):
        whole, changing = tmp_path / f"whole-{parts}", tmp_path / f"changing-{parts}"
        quick = QUICK.replace("TinyModel", network)
        flags = f"{quick} --parts {parts}"
        assert pool.train(1, whole, module_faces, flags) == [Ending(0, "")]
        for size in sizes:
            default = f"{quick} --parts 0" if size != sizes[0] else flags  # 0: those of the checkpoint
            fault = "signal_in_the_third_step" if size == sizes[0] else "signal_in_the_sixth_step"
            assert pool.train(size, changing, module_faces, default, fault=fault) == [Ending(0, "")] * size
        assert pool.train(sizes[-1], changing, module_faces, f"{quick} --parts 0") == [Ending(0, "")] * sizes[-1]
        assert model(changing) == model(whole)
        assert parts_of(changing) == parts
        steps = re.findall(r"resumed at epoch \d, after (\d+) steps", (changing / "log-0").read_text())
        assert steps[0] == "3", "the step in which the signal came was completed, and no other"
    assert "1 of 2 workers are idle" in (tmp_path / "changing-1/log-0").read_text()


@pytest.mark.parametrize("fault", ["no_memory_for_a_part", "no_memory_in_validation"])
def test_without_memory_on_one_worker_all_split_further(
    fault: str, pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    for size in (1, 2):
        flags = f"{QUICK} --parts 2"
        assert pool.train(size, tmp_path / str(size), module_faces, flags, fault=fault) == [Ending(0, "")] * size
        log = (tmp_path / str(size) / "log-0").read_text()
        assert log.count("no memory for the whole batch") >= (fault == "no_memory_for_a_part" or size == 1)
    assert model(tmp_path / "1") == model(tmp_path / "2")


def test_an_error_of_one_worker_ends_all_with_its_sentence(
    pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    expected = {
        "error_in_a_step": "TrainingError: a cable of worker 1 is loose",
        "one_bit": "TrainingError: the weights of worker 1 are not those of worker 0, so one of them computed wrong; ",
        "full_disk": "OSError: no space left on the disk, nothing was published",
        "other_processor": "ConfigError: processor is ",
        "not_finite": "TrainingError: the loss is not finite at step 3, in epoch 1",
    }
    for fault, sentence in expected.items():
        endings = pool.train(3, tmp_path / fault, module_faces, f"{QUICK} --parts 3", fault=fault)
        assert len({(ending.code, ending.failure) for ending in endings}) == 1, fault
        assert endings[0].failure.startswith(sentence), endings[0].failure
        assert not (tmp_path / fault / "model/model.json").exists()
    again = pool.train(2, tmp_path / "full_disk", module_faces, f"{QUICK} --parts 3")
    assert [ending.code for ending in again] == [0, 0]


def test_bad_images_are_the_same_for_all_workers(pool: WorkerPool, module_faces: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(module_faces, tmp_path / "data"))
    bad = sorted(data.rglob("*.jpg"))[5]
    bad.write_bytes(b"text")
    endings = pool.train(2, tmp_path / "error", data, f"{QUICK} --parts 2")
    assert len({ending.failure for ending in endings}) == 1
    assert re.match(r"DataError: 1 of 84 images cannot be used.*" + bad.name, endings[0].failure)
    skip = f"{QUICK} --parts 2 --on-bad-image skip --max-bad-ratio 0.1"
    for size in (1, 2):
        assert pool.train(size, tmp_path / str(size), data, skip) == [Ending(0, "")] * size
    assert model(tmp_path / "1") == model(tmp_path / "2")
    assert "unusable" in (tmp_path / "2/output/exp/split.csv").read_text()


def test_weighted_images_give_the_same_bits_on_any_number_of_workers(
    pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(module_faces, tmp_path / "data"))
    rows = [
        f"{path.relative_to(data)},{path.stem},{index % 4}" for index, path in enumerate(sorted(data.rglob("*.jpg")))
    ]
    (data / "labels.csv").write_text("path,label,weight\n" + "\n".join(rows))
    flags = f"{QUICK} --parts 3 --class-weights balanced --mixup 0.4"
    for size in (1, 2):
        assert pool.train(size, tmp_path / str(size), data, flags) == [Ending(0, "")] * size
    assert model(tmp_path / "1") == model(tmp_path / "2")
    (data / "labels.csv").write_text("path,label\n" + "\n".join(row.rpartition(",")[0] for row in rows))
    assert pool.train(1, tmp_path / "plain", data, flags) == [Ending(0, "")]
    assert model(tmp_path / "1")[0] != model(tmp_path / "plain")[0]


def test_fewer_images_than_workers_are_validated_once_each(
    pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    for size in (1, 3):
        flags = f"{QUICK} --parts 3 --valid-batch-size 30"  # two batches for three workers
        assert pool.train(size, tmp_path / str(size), module_faces, flags) == [Ending(0, "")] * size
    assert model(tmp_path / "1") == model(tmp_path / "3")
