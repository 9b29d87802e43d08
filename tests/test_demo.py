"""The demo data set: the same bytes every time, tables that agree with the images, and never half of one."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import demo
from data.profiles import read_profiles
from faces.options import DemoConfig
from faces.people import EVAL, TRAIN, Person, plan
from labels import MASK_OF_STEM, MASKED_FACES, GenderLabels, LabelScheme, Task
from runtime.errors import ConfigError, DataError, JobError
from support.processes import Process, be_killed, wait_until


def arguments(folder: Path, people: int = 18) -> list[str]:
    return ["--output-dir", str(folder), "--people", str(people), "--eval-people", "2", "--threads", "1"]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest demo, drawn once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("demo") / "faces"
    demo.main(arguments(folder), {})
    return folder


# ---- the images ----


def test_images_are_the_same_bytes_however_many_processes_draw(tmp_path: Path) -> None:
    people = plan(DemoConfig(people=18, eval_people=1))[16:]
    demo.draw_all(people, tmp_path / "one", processes=1)
    demo.draw_all(people, tmp_path / "three", processes=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
    assert len(tree(tmp_path / "one")) == 3 * 7


def test_a_image_depends_on_the_person_and_not_on_what_else_is_drawn(drawn: Path, tmp_path: Path) -> None:
    person = plan(DemoConfig(people=18, eval_people=2))[7]
    demo.draw_person(person, tmp_path)
    assert tree(tmp_path) == {path: (drawn / path).read_bytes() for path in tree(tmp_path)}


def test_no_two_images_are_alike(drawn: Path) -> None:
    images = [data for path, data in tree(drawn).items() if path.endswith(".jpg")]
    assert len(set(images)) == len(images) == 20 * 7


@pytest.mark.parametrize("other", [{"seed": 2}, {"split": EVAL}, {"number": 4}])
def test_another_seed_split_or_number_is_another_face(other: dict[str, Any]) -> None:
    known = Person(seed=1, split=TRAIN, number=3, id="x", gender=GenderLabels.FEMALE, years=40, age=40)
    _, first = next(demo.portraits(known))
    _, second = next(demo.portraits(replace(known, **other)))
    assert first != second


def test_images_have_the_size_of_the_competition(drawn: Path) -> None:
    for path in drawn.glob("*/images/**/*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (384, 512))


# ---- the folder ----


def test_train_csv_agrees_with_the_folders_and_with_the_job(drawn: Path) -> None:
    table = rows(drawn / "train" / "train.csv")
    assert {row["path"] for row in table} == {path.name for path in (drawn / "train" / "images").iterdir()}
    assert all(row["path"] == f"{row['id']}_{row['gender']}_{row['race']}_{row['age']}" for row in table)
    samples = read_profiles(drawn / "train")
    assert samples.ignored_files == 0
    assert set(samples.table["person"]) == {row["id"] for row in table}
    assert Counter(samples.labels.tolist()) == {label: 15 if label < 6 else 3 for label in range(18)}


def test_info_csv_lists_every_image_to_label_and_no_answer(drawn: Path) -> None:
    info = rows(drawn / "eval" / "info.csv")
    names = [row["ImageID"] for row in info]
    assert sorted(names) == sorted(path.name for path in (drawn / "eval" / "images").iterdir())
    assert names != sorted(names)  # a job that lists the folder instead of reading the table fails
    assert all(len(Path(name).stem) == 40 and int(Path(name).stem, 16) for name in names)
    assert {row["ans"] for row in info} == {"0"}


def test_gt_csv_has_the_classes_of_the_people_who_are_in_no_training_folder(drawn: Path) -> None:
    truth, persons = rows(drawn / "gt" / "gt.csv"), rows(drawn / "gt" / "persons.csv")
    order = [row["ImageID"] for row in rows(drawn / "eval" / "info.csv")]
    assert [row["ImageID"] for row in truth] == [row["ImageID"] for row in persons] == order
    people = {person.id: person for person in plan(DemoConfig(people=18, eval_people=2)) if person.split == EVAL}
    for person_id, person in people.items():
        classes = [int(t["ans"]) for t, p in zip(truth, persons, strict=True) if p["id"] == person_id]
        assert Counter(classes) == Counter(person.label(stem) for stem in MASK_OF_STEM)
    assert not {row["id"] for row in rows(drawn / "train" / "train.csv")} & set(people)


def test_one_line_says_what_was_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str], few_images: None) -> None:
    demo.main(arguments(tmp_path / "faces"), {})
    out, err = capfd.readouterr()
    assert out == f"drew 126 images of 18 people in train/ and 14 images of 2 people in eval/: {tmp_path}/faces\n"
    assert err == ""


def test_a_complete_demo_is_not_drawn_again(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    demo.main(arguments(drawn), {})
    assert capsys.readouterr().out == f"the demo is already drawn with these settings: {drawn}\n"
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_another_demo_is_not_overwritten(drawn: Path) -> None:
    before = tree(drawn)
    with pytest.raises(DataError, match=r"^--output-dir holds another demo \(people 18\); remove it or name another: "):
        demo.main(arguments(drawn, people=19), {})
    assert tree(drawn) == before


@pytest.mark.parametrize("settings", ["[]", "{", '{"people": 18}'])
def test_a_demo_with_other_or_damaged_settings_is_not_taken_for_this_one(settings: str, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(settings)
    with pytest.raises(DataError, match="another demo"):
        demo.main(arguments(tmp_path), {})


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="is not empty and holds no complete demo"):
        demo.main(arguments(tmp_path), {})
    assert tree(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces").touch()
    with pytest.raises(DataError, match="is a file, expected a folder to draw into"):
        demo.main(arguments(tmp_path / "faces"), {})


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image per person: for tests that are about the folder."""
    first = demo.portraits
    monkeypatch.setattr(demo, "portraits", lambda person: [next(first(person))])


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_drawing_leaves_nothing(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_images: None
) -> None:
    def interrupted(people: list[Person], folder: Path) -> None:
        assert list(folder.rglob("*.jpg"))
        raise KeyboardInterrupt

    folder = tmp_path / "faces"
    if exists:
        folder.mkdir()
    monkeypatch.setattr(demo, "_write_tables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.main(arguments(folder), {})
    assert list(tmp_path.rglob("*")) == ([folder] if exists else [])


def test_a_folder_is_drawn_into_by_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / ".unfinished" / "train").mkdir(parents=True)
    with (
        FileLock(tmp_path / ".unfinished" / "lock"),
        pytest.raises(DataError, match="another process is drawing into --output-dir"),
    ):
        demo.main(arguments(tmp_path), {})
    assert (tmp_path / ".unfinished" / "train").is_dir()


@contextlib.contextmanager
def drawing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the command, with two workers, and yield it once the first image is on the disk."""
    command = [sys.executable, demo.__file__, "--output-dir", str(folder), "--people", "2000", "--threads", "2"]
    # A test runner in the background ignores SIGINT, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        wait_until(lambda: process.poll() is not None or any(folder.glob(".unfinished/**/*.jpg")))
        yield process


def test_ctrl_c_ends_quietly_and_leaves_nothing(tmp_path: Path) -> None:
    with drawing(tmp_path / "faces") as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_whose_worker_is_killed_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with drawing(tmp_path / "faces") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)
        error = process.communicate(timeout=60)[1]
    assert error.startswith("JobError: one of the 2 processes that draw was killed, ")
    assert error.endswith("with a smaller --threads\n")
    assert (process.returncode, list(tmp_path.iterdir())) == (1, [])


def test_a_drawing_whose_worker_is_killed_cancels_nothing_that_the_pool_is_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pool of Python 3.11 ends with an error of its own, and never, where one of its futures is cancelled meanwhile.
    cancelled: list[Future[None]] = []
    monkeypatch.setattr(Future, "cancel", lambda future: cancelled.append(future))
    monkeypatch.setattr(demo, "draw_person", be_killed)
    people = plan(DemoConfig(output_dir=tmp_path, people=18, eval_people=2))
    with pytest.raises(JobError, match="one of the 2 processes that draw was killed"):
        demo.draw_all(people, tmp_path, processes=2)
    assert cancelled == []


def test_a_killed_drawing_is_no_demo_leaves_no_worker_and_can_be_repeated(tmp_path: Path, few_images: None) -> None:
    folder = tmp_path / "faces"
    with drawing(folder) as process:
        process.kill()
        process.communicate(timeout=60)  # returns when the last worker has closed the pipe
    assert [path.name for path in folder.iterdir()] == [".unfinished"]
    with pytest.raises(DataError, match="no profile folders"):
        read_profiles(folder)
    demo.main(arguments(folder), {})
    assert {path.name for path in folder.iterdir()} == {"train", "eval", "gt", "demo.json"}
    assert len(list(folder.glob("train/images/*"))) == 18


# ---- the contact sheet ----


def test_the_contact_sheet_shows_another_face_for_every_class() -> None:
    sheet = demo.contact_sheet(3, MASKED_FACES)
    assert sheet == demo.contact_sheet(3, MASKED_FACES)
    tiles = {sheet.crop((12 + 204 * column, 12 + 296 * row, 204 * (column + 1), 268 + 296 * row)).tobytes()
             for row in range(3) for column in range(6)}  # fmt: skip
    assert len(tiles) == 18
    captions = [np.asarray(sheet.crop((12, 268 + 296 * row, sheet.width, 308 + 296 * row))) for row in range(3)]
    assert all(caption.min() < 60 and caption.max() == 255 for caption in captions)


def test_the_contact_sheet_bears_the_names_of_the_scheme() -> None:
    words = tuple(task.classes for task in MASKED_FACES.tasks)
    renamed = LabelScheme("renamed", tuple(f"class {n}" for n in range(18)), tuple(Task("t", names) for names in words))
    assert demo.contact_sheet(3, renamed) != demo.contact_sheet(3, MASKED_FACES)


def test_a_scheme_that_is_not_mask_gender_age_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match="not the classes of the label scheme 'folders'"):
        demo.contact_sheet(3, LabelScheme("folders", ("cat", "dog")))


@pytest.mark.parametrize("name", ["faces.jpg", "new/faces.png"])
def test_the_contact_sheet_is_drawn_into_a_file_and_no_data_set_with_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    demo.main(["--contact-sheet", name, "--seed", "3"], {})
    assert capsys.readouterr().out == f"drew a face of each class: {name}\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    with Image.open(name) as image:
        difference = np.asarray(image, np.float64) - np.asarray(demo.contact_sheet(3), np.float64)
    assert np.abs(difference).mean() < 4


def test_a_contact_sheet_of_another_format_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--contact-sheet must end in \.jpg or \.png: "):
        demo.main(["--contact-sheet", str(tmp_path / "faces.pdf")], {})
    assert list(tmp_path.iterdir()) == []


def test_the_settings_name_what_decides_the_images(drawn: Path) -> None:
    settings = json.loads((drawn / "demo.json").read_text())
    assert settings == {"people": 18, "eval_people": 2, "proportions": "balanced", "seed": 42}
