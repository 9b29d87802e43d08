"""A job without anything to save ends at once; batch inference that is killed resumes and loses nothing."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from inotify_simple import Event, INotify, flags
from PIL import Image

from data.images import Preparation
from description import Description
from inference import inference
from labels import MASKED_FACES
from model_files import publish
from options.inference import InferenceConfig
from support.processes import Process
from support.real_command import CODE, FLAGS, MOST_SECONDS, Job


def happening(watcher: INotify, process: subprocess.Popen[str], seconds: float = MOST_SECONDS) -> Iterator[Event]:
    """Yield the events of the watched folders until the process ends."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        yield from watcher.read(timeout=100)


def test_sigterm_while_images_are_decoded_ends_before_the_last_of_them(module_faces: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4000, 4000)).save(tmp_path / "large.png")  # a tenth of a second to decode, at least
    images = sorted(module_faces.rglob("*.jpg"))
    for image in images:
        large = tmp_path / "data" / image.parent.name / f"{image.stem}.png"
        large.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "large.png", large)
    waiting = f"{FLAGS[0]} --on-bad-image skip"  # no step before the last image, however late the signal comes
    job, opened = Job(tmp_path / "job", tmp_path / "data", waiting), set()
    with INotify() as watcher:
        folders = {watcher.add_watch(folder, flags.OPEN): folder for folder in (tmp_path / "data").iterdir()}
        with job.start() as process:
            for event in happening(watcher, process):
                if event.name:
                    opened.add(folders[event.wd] / event.name)
                    process.send_signal(signal.SIGTERM)
                    break
            assert process.wait(MOST_SECONDS) == 128 + signal.SIGTERM, "no step was taken"
        opened |= {folders[event.wd] / event.name for event in watcher.read(timeout=0) if event.name}
    assert 0 < len(opened) < len(images)
    assert not list((tmp_path / "job/model").iterdir())


@pytest.mark.slow
def test_batch_inference_that_is_ended_half_way_resumes_and_leaves_the_same_bytes(
    eval_folder: Callable[..., tuple[Path, list[int]]], tmp_path: Path
) -> None:
    data, _ = eval_folder(60)
    torch.manual_seed(3)
    description = Description("TinyModel", "joint", MASKED_FACES, Preparation((32, 24)))
    publish(tmp_path / "model", description.build().state_dict(), description)

    def start(output: Path) -> subprocess.Popen[str]:
        environ = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "SM_CHANNEL_EVAL": str(data),
            "SM_CHANNEL_MODEL": str(tmp_path / "model"),
            "SM_OUTPUT_DATA_DIR": str(output),
        }
        line = [sys.executable, str(CODE / "inference.py"), "--batch-size", "1", "--save-probabilities", "true"]
        log = (tmp_path / "log").open("a")
        with log:
            return Process(line, env=environ, stdout=log, stderr=subprocess.STDOUT, text=True)

    config = InferenceConfig(batch_size=1, save_probabilities=True, device="cpu")
    whole = inference(data, tmp_path / "model", tmp_path / "whole", config)
    output = tmp_path / "output"
    output.mkdir()
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)):
        with INotify() as watcher:
            watcher.add_watch(output, flags.MODIFY)
            with start(output) as process:
                next(itertools.islice(happening(watcher, process), 4, None))  # after three predictions
                process.send_signal(number)
                assert process.wait(MOST_SECONDS) == code
        assert not (output / "output.csv").exists()
    with start(output) as process:
        assert process.wait(MOST_SECONDS) == 0
    assert (tmp_path / "log").read_text().count("resumed after") == 2
    assert (output / "output.csv").read_bytes() == whole.read_bytes()
    assert [path.name for path in output.iterdir()] == ["output.csv"]
