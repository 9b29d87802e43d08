"""A run cut into parts ends with the same bits on any number of workers, and all of them end together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.worker_pool import Ending, WorkerPool

SIZES = (1, 2, 3)
QUICK = (
    "--epochs 2 --batch-size 9 --valid-batch-size 8 --resize 32 24 --val-ratio 0.5 --lr 0.003 --device cpu --threads 1 "
    "--checkpoint-steps 2 --log-interval 1"
)
MANY = {
    "everything": "--parts 4 --model TinyModel --optimizer AdamW --ema-decay 0.9 --augmentation StrongAugmentation "
    "--mixup 0.2 --cutmix 0.3 --clip-norm 1 --class-weights balanced --precision fp32 --freeze 3 --freeze-epochs 1 "
    "--layer-decay 0.8 --head-lr 0.01 --min-precision 0.5",
    "without batch norm": "--parts 4 --model BaseModel --optimizer SGD --sampler balanced --criterion f1 "
    "--augmentation CustomAugmentation --head factored --precision bf16",
}
MORE = {
    "focal": "--parts 4 --model TinyModel --criterion focal --class-weights balanced --optimizer RMSprop --cutmix 1",
    "label smoothing": "--parts 4 --model BaseModel --criterion label_smoothing --schedule onecycle --mixup 1",
    "torchvision": "--parts 4 --model resnet18 --resize 64 64 --ema-decay 0.5 --optimizer Adam --precision bf16",
    "dropout and grouped convolutions": "--parts 4 --model mobilenet_v3_small --resize 64 64 --sampler balanced",
    "three parts": "--parts 3 --model TinyModel --clip-norm 0.1 --augmentation CustomAugmentation",
    "operations": "--parts 3 --model BaseModel --augmentation TrivialAugment --fit pad",
    "one part": "--parts 1 --model TinyModel --augmentation StrongAugmentation --mixup 0.5",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(max(SIZES)) as processes:
        yield processes


def results(folder: Path) -> dict[str, bytes]:
    """Return the bytes of what a run leaves."""
    names = ("model/model.safetensors", "model/model.json", *(f"output/exp/{name}" for name in ("metrics.jsonl",)))
    more = ("output/exp/split.csv", "output/exp/config.json")
    return {name: (folder / name).read_bytes() for name in (*names, *more)}


def check(pool: WorkerPool, data: Path, folder: Path, flags: str) -> None:
    for size in SIZES:
        assert pool.train(size, folder / str(size), data, f"{QUICK} {flags}") == [Ending(0, "")] * size
    expected = results(folder / "1")
    for size in SIZES[1:]:
        assert results(folder / str(size)) == expected, f"{size} workers"


@pytest.mark.parametrize("name", MANY)
def test_a_run_has_the_same_bits_on_one_two_and_three_workers(
    name: str, pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    check(pool, module_faces, tmp_path, MANY[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_many_runs_have_the_same_bits_on_one_two_and_three_workers(
    name: str, pool: WorkerPool, module_faces: Path, tmp_path: Path
) -> None:
    check(pool, module_faces, tmp_path, MORE[name])
