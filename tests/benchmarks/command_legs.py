"""The commands as they are started: how long they take to begin, and how cost grows with the images."""

import os
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.legs import draw_images, timed

ROOT = Path(__file__).resolve().parents[2]


def bench_commands(scratch: Path) -> None:
    """The commands as they are started: how long they take to begin, and how cost grows with the images."""
    environ = {**os.environ, "SM_MODEL_DIR": str(scratch / "m"), "SM_OUTPUT_DATA_DIR": str(scratch / "o")}
    helps = [timed([str(ROOT / "code/train.py"), "--help"], environ).seconds for _ in range(5)]
    median = statistics.median(helps)
    print(f"\ncommands\n  train.py --help {median:37.2f} s   bar 0.3: {'reached' if median < 0.3 else 'missed'}")
    print("\ntrain.py --model TinyModel --epochs 2, from start to end")
    for factor in (1, 2, 4):
        folder = draw_images(scratch / f"times{factor}", 16, 64 * factor)
        environ |= {"SM_CHANNEL_TRAIN": str(folder), "OUR_START": str(time.time())}
        first_step = (
            "import os, sys, time; sys.path.insert(0, sys.argv.pop())\n"
            "from training.trainer import Trainer; step = Trainer.step\n"
            "def spy(*a):\n"
            "    Trainer.step = step\n"
            "    print('first', time.time() - float(os.environ['OUR_START']), flush=True)\n"
            "    return step(*a)\n"
            "Trainer.step = spy; import train; train.main()"
        )
        flags = ["--model", "TinyModel", "--epochs", "2", "--valid-batch-size", "256", "--resume", "never"]
        done = timed(["-c", first_step, *flags, str(ROOT / "code")], environ)
        first = next(line for line in done.output.splitlines() if line.startswith("first")).split()[1]
        print(
            f"  {factor} x {64 * 7:<5} images {done.seconds:8.1f} s, first step after {float(first):4.1f} s, "
            f"{done.cpu_seconds:6.1f} s of CPU, peak memory {done.peak_bytes / 2**20:6.0f} MiB"
        )
        shutil.rmtree(folder)
