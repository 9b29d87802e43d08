"""What is kept is what would be decoded, or it is not used: whatever happened to the folder."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from data import store_cache as module
from data.image_store import ImageStore
from data.images import Pixels, Preparation
from data.samples import Samples, read_profiles
from data.store_cache import KEEP, StoreCache
from runtime.errors import DataError

CODE = Path(__file__).parents[2] / "code"
PREPARATION = Preparation((32, 24), (50, 40))
SHAPE = (42, 32, 24, 3)


@pytest.fixture
def samples(faces: Callable[..., Path]) -> Samples:
    return read_profiles(faces(people=6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def kept(folder: Path, samples: Samples, preparation: Preparation = PREPARATION) -> StoreCache:
    return StoreCache(folder, samples.root, samples.paths, preparation)


def job(folder: Path, samples: Samples, **options: object) -> ImageStore:
    """What a training job does with the folder."""
    store = ImageStore(samples.paths, PREPARATION, kept=kept(folder, samples), **options)  # type: ignore[arg-type]
    store.wait()
    return store


def is_warm(folder: Path, samples: Samples) -> bool:
    return kept(folder, samples).load() is not None


def fresh(samples: Samples) -> Pixels:
    store = ImageStore(samples.paths, PREPARATION)
    store.wait()
    return store.pixels


def test_a_second_job_decodes_nothing_and_has_the_same_bits(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = job(folder, samples)
    monkeypatch.setattr("data.decoding.prepare", lambda *_: pytest.fail("a warm store decodes nothing"))
    warm = job(folder, samples)
    assert np.array_equal(warm.pixels, cold.pixels)
    monkeypatch.undo()
    assert np.array_equal(warm.pixels, fresh(samples))
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".pixels"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_the_same_images_elsewhere_and_copied_anew_are_the_same_data(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    elsewhere = samples.root.parent / "elsewhere"
    samples.root.rename(elsewhere)
    for path in elsewhere.rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert is_warm(folder, read_profiles(elsewhere))


def test_whatever_changes_the_pixels_changes_the_key(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [kept(folder, samples).array]
    for preparation in (Preparation((24, 32), (50, 40)), Preparation((32, 24)), Preparation((32, 24), (40, 50))):
        keys.append(kept(folder, samples, preparation).array)
    with monkeypatch.context() as patch:
        patch.setattr(module.PIL, "__version__", "0.0")
        keys.append(kept(folder, samples).array)
    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT", 99)
        keys.append(kept(folder, samples).array)
    version = module.features.version
    for library in ("libjpeg_turbo", "zlib", "webp"):
        with monkeypatch.context() as patch:
            patch.setattr(
                module.features, "version", lambda name, library=library: "0" if name == library else version(name)
            )
            keys.append(kept(folder, samples).array)
    first = samples.paths[0]
    data, status = first.read_bytes(), first.stat()
    first.write_bytes(data[:-3] + b"\0\xff\xd9")  # the same size and the same time
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(kept(folder, samples).array)
    first.write_bytes(data)
    first.rename(first.with_name("normal.jpeg"))
    keys.append(kept(folder, read_profiles(samples.root)).array)
    samples.paths[1].unlink()
    keys.append(kept(folder, samples).array)
    assert len(set(keys)) == len(keys)


def test_mean_and_deviation_are_not_part_of_the_pixels(folder: Path, samples: Samples) -> None:
    other = Preparation(PREPARATION.size, PREPARATION.crop, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert kept(folder, samples).array == kept(folder, samples, other).array


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".pixels", lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]),
        (".pixels", lambda data: data[:-1]),
        (".pixels", lambda data: b""),
        (".json", lambda data: data[: len(data) // 2]),
        (".json", lambda data: b""),
        (".json", lambda data: b"[]"),
        (".json", lambda data: b"\xff\xfe"),
        (".json", lambda data: b'{"sha256": "0", "bad": {}}'),
        (".json", lambda data: b'{"bad": {"x": 1}}'),
    ],
)
def test_a_damaged_one_is_named_not_used_and_made_anew(
    folder: Path,
    samples: Samples,
    suffix: str,
    change: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    job(folder, samples)
    damage(next(folder.glob(f"*{suffix}")), change)
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "kept images are damaged" in capsys.readouterr().err
    assert is_warm(folder, samples)
    assert capsys.readouterr().err == ""


def test_an_array_without_its_manifest_is_not_used(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    next(folder.glob("*.json")).unlink()
    assert not is_warm(folder, samples)


def test_a_job_that_ends_before_its_store_is_full_leaves_nothing(folder: Path, samples: Samples) -> None:
    store = ImageStore(samples.paths, PREPARATION, kept=kept(folder, samples))
    store.wait(np.array([0]))
    del store
    assert list(folder.iterdir()) == []


def test_what_a_killed_job_left_is_removed_and_what_a_living_one_fills_is_not(folder: Path, samples: Samples) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CODE)!r}); from pathlib import Path\n"
        "from data.store_cache import StoreCache\n"
        "from data.images import Preparation; from data.samples import read_profiles\n"
        f"samples = read_profiles(Path({str(samples.root)!r}))\n"
        f"kept = StoreCache(Path({str(folder)!r}), samples.root, samples.paths, Preparation((32, 24)))\n"
        "pixels = kept.create()\n"
        "print('filling', flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", program]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
        (temporary,) = folder.iterdir()
        job(folder, samples)
        assert temporary.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert temporary.exists()
    kept(folder, samples).create()
    assert not temporary.exists()


def test_two_jobs_at_once_are_in_nobodys_way(folder: Path, samples: Samples) -> None:
    first, second = (ImageStore(samples.paths, PREPARATION, kept=kept(folder, samples)) for _ in range(2))
    first.wait()
    second.wait()
    assert np.array_equal(first.pixels, second.pixels)
    assert is_warm(folder, samples)
    assert len(list(folder.iterdir())) == 2


def test_the_stores_used_last_stay_and_a_job_keeps_what_it_has_open(folder: Path, samples: Samples) -> None:
    stores = []
    for height in range(10, 10 + KEEP + 2):
        store = ImageStore(
            samples.paths, Preparation((height, 8)), kept=kept(folder, samples, Preparation((height, 8)))
        )
        store.wait()
        stores.append(store)
        for age, path in enumerate(sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, (age, age))
    assert len(list(folder.glob("*.json"))) == len(list(folder.glob("*.pixels"))) == KEEP
    assert stores[0].pixels.any()


def test_of_many_stores_the_one_that_was_used_longest_ago_goes(folder: Path, samples: Samples) -> None:
    def one(height: int) -> StoreCache:
        return kept(folder, samples, Preparation((height, 8)))

    def use(height: int) -> None:
        ImageStore(samples.paths, Preparation((height, 8)), kept=one(height)).wait()

    for height in (10, 11, 12):
        use(height)
        os.utime(one(height).manifest, (height, height))
    use(10)
    use(13)
    assert [one(height).manifest.exists() for height in (10, 11, 12, 13)] == [True, False, True, True]


def test_nothing_can_write_into_a_warm_store(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    found = kept(folder, samples).load()
    assert found
    assert not found[0].flags.writeable


def test_unusable_images_stay_unusable_in_a_warm_store(folder: Path, samples: Samples, tmp_path: Path) -> None:
    samples.paths[3].write_bytes(b"")
    samples.paths[17].write_bytes(b"text")
    cold = job(folder, samples, on_bad_image="skip", max_bad_ratio=0.1)
    elsewhere = tmp_path / "elsewhere"
    samples.root.rename(elsewhere)
    moved = read_profiles(elsewhere)
    warm = job(folder, moved, on_bad_image="skip", max_bad_ratio=0.1)
    assert {row: error.code for row, error in warm.bad.items()} == {3: "empty", 17: "undecodable_image"}
    assert str(warm.bad[3]) == str(cold.bad[3]).replace(str(samples.root), str(elsewhere))
    with pytest.raises(DataError, match="2 of 42 images cannot be used, mend them"):
        job(folder, moved)


def test_images_that_end_a_run_are_not_kept(folder: Path, samples: Samples) -> None:
    samples.paths[3].write_bytes(b"")
    with pytest.raises(DataError, match="1 of 42"):
        job(folder, samples)
    assert list(folder.iterdir()) == []


def test_a_folder_without_room_is_a_warning_and_nothing_is_left_in_it(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = job(folder, samples)
    assert "warning: the images could not be kept (No space left on device): " in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))
    assert list(folder.iterdir()) == []


def test_a_folder_that_may_not_be_entered_is_a_warning(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, mkdir = Path.read_text, Path.mkdir

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if folder in (path, *path.parents):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return (mkdir if "exist_ok" in named else read)(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "warning: the images could not be kept (Permission denied)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_a_warning(
    tmp_path: Path, samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    store = job(tmp_path / "file" / "store", samples)
    assert "warning: the images could not be kept (Not a directory): " in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))


def test_a_file_that_another_job_tidies_up_before_it_is_locked_is_made_again(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, unlucky = fcntl.flock, [True]

    def tidied_up_first(file: IO[bytes], operation: int) -> None:
        if operation == fcntl.LOCK_EX and unlucky:
            unlucky.clear()
            Path(file.name).unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", tidied_up_first)
    job(folder, samples)
    assert is_warm(folder, samples)
    assert not unlucky


def test_a_folder_that_fails_at_the_end_is_a_warning_and_the_run_goes_on(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    store = job(folder, samples)
    assert "warning: the images could not be kept (Input/output error)" in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_read_only_still_serves(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(folder, samples)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert is_warm(folder, samples)
    assert json.loads(next(folder.glob("*.json")).read_text())["bad"] == {}
