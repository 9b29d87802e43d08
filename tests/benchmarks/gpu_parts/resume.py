"""train.py cold, beside a run that is killed with SIGKILL and resumed, and with a warm store: the same bits."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.commands import Training, draw_images
from runtime.process import cpu_count

# Everything that has a state or is random, in a few runs; the most telling first.
RUNS = {
    "TinyModel": "--model TinyModel --augmentation StrongAugmentation --ema-decay 0.9 --mixup 0.2 --cutmix 0.5 "
    "--cutmix-shape strip --head factored --optimizer AdamW --schedule onecycle --precision auto --resize 64 48",
    "resnet18": "--model resnet18 --augmentation CustomAugmentation --optimizer SGD --precision fp16 --resize 64 48",
    "vit_b_16": "--model vit_b_16 --clip-norm 1 --optimizer AdamW --precision auto --resize 64 64",
    "resnet50": "--model resnet50 --criterion f1 --sampler balanced --cutmix 1 --parts 2 --precision auto "
    "--resize 64 48",
    "alexnet": "--model alexnet --class-weights balanced --optimizer Adam --precision auto --resize 64 64",
}
COUNTS = {"tiny": 1, "short": 2, "long": len(RUNS)}
KILLS = {"tiny": (3,), "short": (3,), "long": (3, 9)}  # after so many steps
PEOPLE, EPOCHS, BATCH = 12, 3, 14  # 56 images to train on, 4 steps an epoch


def run(check: Check) -> None:
    """Run all trainings at once, as far as there are CPUs for them."""
    names = list(RUNS)[: COUNTS[check.form]]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(max(1, cpu_count() // 3)) as pool:
        images = draw_images(Path(scratch) / "images", PEOPLE)
        for done in as_completed([pool.submit(compare, check, name, Path(scratch), images) for name in names]):
            done.result()


def compare(check: Check, name: str, scratch: Path, images: Path) -> None:
    """Judge one training: three runs of it, and what they leave."""
    flags = f"{RUNS[name]} --epochs {EPOCHS} --batch-size {BATCH} --val-ratio 0.34 --device {check.device} --threads 2"
    folder, store = scratch / name.replace(" ", "-"), scratch / f"{name}-store"
    cold, warm = (Training(folder / word, images, flags, store) for word in ("cold", "warm"))
    killed = Training(folder / "killed", images, flags)
    try:
        with ThreadPoolExecutor(1) as beside:
            interrupted = beside.submit(kill_and_resume, killed, KILLS[check.form], check.seconds_left)
            cold.finish(check.seconds_left)
            check.holds(f"{name}: the store cache was written", any(files for _, _, files in os.walk(store)))
            warm.finish(check.seconds_left)
            killed_as_planned = interrupted.result()
    except RuntimeError as error:
        check.holds(f"{name}: runs", False, str(error))
        return
    check.holds(f"{name}: killed, and resumed", killed_as_planned and "resumed at epoch" in killed.log)
    for what, other in (("warm", warm), ("killed and resumed", killed)):
        same = cold.digests() == other.digests()
        shown = " ".join(cold.digests()) if same else f"{cold.digests()} against {other.digests()}"
        check.computes(f"{name}: {what}", same, shown, "equal to cold")


def kill_and_resume(training: Training, steps: tuple[int, ...], seconds: float) -> bool:
    """Kill a run at some steps, then let it finish; returns whether it was killed each time."""
    killed = [training.kill(after, seconds) for after in steps]
    training.finish(seconds)
    return all(killed)
