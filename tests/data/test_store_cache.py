"""An entry of the store cache is used only if its pixels are those that decoding would give."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import features

from data import store_cache as module
from data.digests import as_array, file_digests
from data.fitting import FITS
from data.image_store import ImageStore
from data.images import Preparation
from data.profiles import read_profiles
from data.samples import Samples
from data.store_cache import KEEP, StoreCache
from data.validation import add_validation
from runtime.errors import DataError
from support.drawing import draw_faces
from support.processes import Process
from support.store_caches import PREPARATION, entry, fresh, is_warm, job
from support.strange_files import KINDS, make_strange

CODE = Path(__file__).parents[2] / "code"
LAST_RELEASE = Path(__file__).parents[1] / "support/last_release/store"


@pytest.fixture
def samples(faces: Callable[..., Path]) -> Samples:
    return read_profiles(faces(people=6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_second_job_decodes_nothing_and_has_the_same_pixels(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = job(folder, samples)
    monkeypatch.setattr("data.image_store.DecodePool", lambda *_, **__: pytest.fail("a warm store decodes nothing"))
    warm = job(folder, samples)
    assert np.array_equal(warm.pixels, cold.pixels)
    monkeypatch.undo()
    assert np.array_equal(warm.pixels, fresh(samples))
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".pixels"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_the_same_images_in_another_folder_with_other_times_use_the_same_entry(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    elsewhere = samples.root.parent / "elsewhere"
    samples.root.rename(elsewhere)
    for path in elsewhere.rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert is_warm(folder, read_profiles(elsewhere))


def test_the_folders_of_training_and_validation_may_lie_anywhere(
    folder: Path, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may be relative and the other absolute."""
    val = shutil.copytree(samples.root, tmp_path / "a/b/val")
    job(folder, add_validation(samples, read_profiles(val)))
    monkeypatch.chdir(samples.root.parent)
    relative = read_profiles(Path(samples.root.name))
    assert is_warm(folder, add_validation(relative, read_profiles(val)))


def test_everything_that_changes_the_pixels_changes_the_key(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [entry(folder, samples).array]
    for preparation in (Preparation((24, 32), (50, 40)), Preparation((32, 24)), Preparation((32, 24), (40, 50))):
        keys += [entry(folder, samples, replace(preparation, fit=fit)).array for fit in FITS]
    keys.append(entry(folder, samples, Preparation((32, 24), mean=(0.1, 0.2, 0.3), fit="pad")).array)
    with monkeypatch.context() as patch:
        patch.setattr(PIL, "__version__", "0.0")
        keys.append(entry(folder, samples).array)
    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT", 99)
        keys.append(entry(folder, samples).array)
    version = features.version
    for library in ("libjpeg_turbo", "zlib", "webp"):
        with monkeypatch.context() as patch:
            patch.setattr(features, "version", lambda name, library=library: "0" if name == library else version(name))
            keys.append(entry(folder, samples).array)
    first = samples.paths[0]
    data, status = first.read_bytes(), first.stat()
    first.write_bytes(data[:-3] + b"\0\xff\xd9")  # same size and modification time
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(entry(folder, samples).array)
    first.write_bytes(data)
    first.rename(first.with_name("normal.jpeg"))
    keys.append(entry(folder, read_profiles(samples.root)).array)
    samples.paths[1].unlink()
    keys.append(entry(folder, samples).array)
    assert len(set(keys)) == len(keys)


def test_an_entry_of_the_last_release_is_found_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"libjpeg_turbo": "3.2.0", "zlib": "1.2.13", "webp": "1.6.0"}  # of the machine that made it
    monkeypatch.setattr(PIL, "__version__", "13.0.0")
    monkeypatch.setattr(features, "version", versions.get)
    samples = read_profiles(draw_faces(tmp_path / "images", people=12, ending=".ppm"))
    found = entry(LAST_RELEASE, samples, Preparation((32, 24))).load()
    assert found is not None
    pixels, bad = found
    assert pixels.shape == (84, 32, 24, 3)
    assert bad == {}


def test_mean_and_standard_deviation_do_not_change_the_key(folder: Path, samples: Samples) -> None:
    other = Preparation(PREPARATION.size, PREPARATION.crop, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert entry(folder, samples).array == entry(folder, samples, other).array


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
def test_a_damaged_entry_is_named_ignored_and_decoded_again(
    folder: Path,
    samples: Samples,
    suffix: str,
    change: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    job(folder, samples)
    damage(next(folder.glob(f"*{suffix}")), change)
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "the store cache is damaged" in capsys.readouterr().err
    assert is_warm(folder, samples)
    assert capsys.readouterr().err == ""


def test_an_array_without_its_manifest_is_ignored(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    next(folder.glob("*.json")).unlink()
    assert not is_warm(folder, samples)


def test_a_job_that_ends_before_its_store_is_full_leaves_no_file(folder: Path, samples: Samples) -> None:
    store = ImageStore(samples.paths, PREPARATION, cache=entry(folder, samples))
    store.wait(np.array([0]))
    del store
    assert list(folder.iterdir()) == []


def test_the_temporary_file_of_a_killed_job_is_removed_and_that_of_a_running_one_is_not(
    folder: Path, samples: Samples
) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CODE)!r}); from pathlib import Path\n"
        "from data.store_cache import StoreCache\n"
        "from data.images import Preparation; from data.profiles import read_profiles\n"
        f"samples = read_profiles(Path({str(samples.root)!r}))\n"
        f"cache = StoreCache(Path({str(folder)!r}), samples.names, samples.paths, Preparation((32, 24)))\n"
        "pixels = cache.create()\n"
        "print('filling', flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", program]
    with Process(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
        (temporary,) = folder.iterdir()
        job(folder, samples)
        assert temporary.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert temporary.exists()
    entry(folder, samples).create()
    assert not temporary.exists()


def test_an_array_whose_job_was_killed_before_its_manifest_is_removed(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    (array,) = folder.glob("*.pixels")
    next(folder.glob("*.json")).unlink()
    other = Preparation((10, 8))
    with array.open("rb") as file:  # as of a job that is about to write the manifest
        fcntl.flock(file, fcntl.LOCK_EX)
        entry(folder, samples, other).create()
        assert array.exists()
    entry(folder, samples, other).create()
    assert not array.exists()


def test_two_jobs_can_fill_the_same_entry_at_the_same_time(folder: Path, samples: Samples) -> None:
    first, second = (ImageStore(samples.paths, PREPARATION, cache=entry(folder, samples)) for _ in range(2))
    first.wait()
    second.wait()
    assert np.array_equal(first.pixels, second.pixels)
    assert is_warm(folder, samples)
    assert len(list(folder.iterdir())) == 2


def test_the_entries_used_last_are_kept_and_an_open_one_stays_readable(folder: Path, samples: Samples) -> None:
    stores = []
    for height in range(10, 10 + KEEP + 2):
        store = ImageStore(
            samples.paths, Preparation((height, 8)), cache=entry(folder, samples, Preparation((height, 8)))
        )
        store.wait()
        stores.append(store)
        for age, path in enumerate(sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, (age, age))
    assert len(list(folder.glob("*.json"))) == len(list(folder.glob("*.pixels"))) == KEEP
    assert stores[0].pixels.any()


def test_the_entry_used_longest_ago_is_removed_first(folder: Path, samples: Samples) -> None:
    def one(height: int) -> StoreCache:
        return entry(folder, samples, Preparation((height, 8)))

    def use(height: int) -> None:
        ImageStore(samples.paths, Preparation((height, 8)), cache=one(height)).wait()

    for height in (10, 11, 12):
        use(height)
        os.utime(one(height).manifest, (height, height))
    use(10)
    use(13)
    assert [one(height).manifest.exists() for height in (10, 11, 12, 13)] == [True, False, True, True]


def test_files_of_others_in_the_folder_are_left_alone(folder: Path, samples: Samples) -> None:
    folder.mkdir()
    digits = "0123456789abcdef" * 2
    names = [
        *(
            "a.json",
            "a.pixels",
            "b.json",
            "c.json",
            "d.json",
            f"{digits}0.json",
            f"{digits.upper()}.json",
        ),
        *(f"{digits[:-1]}.json", f"{digits}.json.bak", ".mine.pixels.tmp", "notes.txt"),
    ]
    for age, name in enumerate(names):
        (folder / name).write_text("other")
        os.utime(folder / name, (age, age))
    for height in range(10, 10 + KEEP + 2):
        preparation = Preparation((height, 8))
        ImageStore(samples.paths, preparation, cache=entry(folder, samples, preparation)).wait()
    assert [name for name in names if not (folder / name).exists()] == []
    assert len(list(folder.iterdir())) == len(names) + 2 * KEEP


def test_a_cached_array_is_read_only(folder: Path, samples: Samples) -> None:
    job(folder, samples)
    found = entry(folder, samples).load()
    assert found
    assert not found[0].flags.writeable


def test_the_cache_remembers_images_that_cannot_be_used(folder: Path, samples: Samples, tmp_path: Path) -> None:
    samples.paths[3].write_bytes(b"")
    samples.paths[17].write_bytes(b"text")
    cold = job(folder, samples, on_bad_image="skip", max_bad_ratio=0.1)
    elsewhere = tmp_path / "elsewhere"
    samples.root.rename(elsewhere)
    moved = read_profiles(elsewhere)
    warm = job(folder, moved, on_bad_image="skip", max_bad_ratio=0.1)
    assert {index: error.code for index, error in warm.bad.items()} == {3: "empty", 17: "undecodable_image"}
    assert str(warm.bad[3]) == str(cold.bad[3]).replace(str(samples.root), str(elsewhere))
    with pytest.raises(DataError, match="2 of 42 images cannot be used, fix them"):
        job(folder, moved)


def test_an_entry_of_a_version_that_read_fewer_formats_is_decoded_again(folder: Path, samples: Samples) -> None:
    (samples.paths[0]).write_bytes(b"a text")
    job(folder, samples, on_bad_image="skip", max_bad_ratio=1.0)
    assert is_warm(folder, samples)
    manifest = entry(folder, samples).manifest
    manifest.write_text(manifest.read_text().replace(", GIF, TIFF, AVIF)", ")"))
    assert not is_warm(folder, samples)


def test_a_run_that_a_bad_image_ends_leaves_no_entry(folder: Path, samples: Samples) -> None:
    samples.paths[3].write_bytes(b"")
    with pytest.raises(DataError, match="1 of 42"):
        job(folder, samples)
    assert list(folder.iterdir()) == []


def test_a_warm_and_a_cold_job_know_the_same_digests(folder: Path, samples: Samples) -> None:
    samples.paths[3].unlink()
    cold, warm = (job(folder, samples, on_bad_image="skip", max_bad_ratio=0.1).digests.known() for _ in range(2))
    assert np.array_equal(cold, as_array(list(file_digests(samples.paths))))
    assert np.array_equal(warm, cold)
    assert not cold[3].any()


def test_an_entry_whose_images_changed_while_they_were_read_is_not_written(
    folder: Path, samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = entry(folder, samples)
    samples.paths[0].write_bytes(samples.paths[1].read_bytes())
    store = ImageStore(samples.paths, PREPARATION, cache=cache)
    store.wait()
    assert list(folder.iterdir()) == []
    assert "images changed while they were read, so the store cache is not written" in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))


def test_an_entry_of_another_key_with_the_same_first_half_is_not_used(
    folder: Path, samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    job(folder, samples)
    manifest = next(folder.glob("*.json"))
    damage(manifest, lambda data: data.replace(entry(folder, samples).key.encode(), b"0" * 64))
    assert not is_warm(folder, samples)
    assert "it is of other images" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".pixels", ".json"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_that_is_no_regular_file_or_too_large_is_decoded_again(
    folder: Path, samples: Samples, suffix: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job(folder, samples)
    make_strange(next(folder.glob(f"*{suffix}")), kind)
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "the store cache is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [{"99999": ["x", "y"]}, {"-1": ["x", "y"]}, {"0": ["x"]}, {"0": 5}, [1], "x", None])
def test_an_entry_whose_bad_images_are_none_of_the_data_set_is_decoded_again(
    folder: Path, samples: Samples, bad: object, capsys: pytest.CaptureFixture[str]
) -> None:
    job(folder, samples)
    manifest = next(folder.glob("*.json"))
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"bad": bad}))
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "the store cache is damaged" in capsys.readouterr().err
