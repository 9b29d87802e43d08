"""With a really full or read-only disk, existing files stay intact, the cause is reported, and with room a run resumes.

Small file systems in memory need root; where mounting is not allowed, these tests are skipped.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import TrainConfig
from model_files import load
from runtime.failure import explain_os_error
from support.real_command import FLAGS, MOST_SECONDS, Job
from train import train

Mount = Callable[..., Path]


@pytest.fixture
def mounted() -> Iterator[Mount]:
    """Mount a file system of `size_bytes` on a folder; call again to change its size or its mode."""
    mounts: list[Path] = []

    def mount(folder: Path, size_bytes: int, mode: str = "rw") -> Path:
        if not shutil.which("mount"):
            pytest.skip("mount is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size_bytes},{mode}" + (",remount" if folder in mounts else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        mounts.append(folder)
        return folder

    yield mount
    for folder in set(mounts):
        subprocess.run(["umount", "--lazy", folder], check=True)


def failure(job: Job) -> str:
    path = job.folder / "output" / "failure"
    text = path.read_text()
    path.unlink()
    assert len(text) <= 1024
    return text


def end(job: Job) -> int:
    with job.start() as process:
        return process.wait(MOST_SECONDS)


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_with_room_the_run_resumes_to_the_same_bits(
    module_faces: Path, tmp_path: Path, mounted: Mount
) -> None:
    undisturbed, job = (Job(tmp_path / name, module_faces, FLAGS[1] + " --epochs 2") for name in ("undisturbed", "job"))
    undisturbed.finish()
    checkpoint_bytes = max(path.stat().st_size for path in (undisturbed.folder / "checkpoints").iterdir())

    # room for two checkpoints, but not for the one that would take the place of the older
    checkpoints = mounted(job.folder / "checkpoints", int(2.5 * checkpoint_bytes))
    assert end(job) == 1
    assert failure(job).startswith("OSError: no space left on the disk, nothing was published")
    assert len(list(checkpoints.glob("step-*.json"))) == 2
    assert not list(checkpoints.glob(".*")), "the half-written one is gone"
    assert not list((job.folder / "model").iterdir())

    # room for checkpoints, but none for the model
    mounted(checkpoints, 10 * checkpoint_bytes)
    model = mounted(job.folder / "model", 8192)
    (model / "model.json").write_text("an older model")
    assert end(job) == 1
    assert failure(job).endswith(f": {model / 'model.safetensors'}")
    assert {path.name: path.read_text() for path in model.iterdir()} == {"model.json": "an older model"}

    mounted(model, 10 * checkpoint_bytes)
    job.finish()
    assert "resumed at epoch" in job.log
    assert job.digests() == undisturbed.digests()


@pytest.mark.parametrize("folder", ["model", "checkpoints", "output"])
def test_a_read_only_disk_is_a_sentence(module_faces: Path, tmp_path: Path, mounted: Mount, folder: str) -> None:
    place = mounted(tmp_path / folder, 100_000)
    mounted(place, 100_000, "ro")
    config = TrainConfig(model="TinyModel", resize=(32, 24), val_ratio=0.5, device="cpu", precision="fp32")
    paths = {f"{name}_dir": tmp_path / name / "run" for name in ("output", "checkpoint")}
    if folder == "checkpoints":
        paths["checkpoint_dir"] = place
    with pytest.raises(OSError, match="Read-only") as caught:
        train(module_faces, tmp_path / "model", config, **paths)  # type: ignore[arg-type]
    sentence = str(explain_os_error(caught.value))
    assert sentence.startswith("not allowed to write or read there")
    assert str(place) in sentence
    assert list(place.iterdir()) == []
    if folder == "model":
        assert not (tmp_path / "checkpoint").exists(), "noticed before training, not after"


@pytest.mark.slow
def test_shared_memory_is_not_needed(module_faces: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, module_faces, FLAGS[0] + " --epochs 3")
    job.prefix = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$0" "$@"']
    if not shutil.which("unshare") or subprocess.run([*job.prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    assert end(job) == 0, job.log[-2000:]
    load(tmp_path / "model")
