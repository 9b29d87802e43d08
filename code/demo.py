"""Draw a data set of faces in the layout of the competition, for everyone without images at hand.

    python code/demo.py --output-dir demo
    python code/demo.py --output-dir faces --people 2700 --proportions competition
    python code/demo.py --contact-sheet .github/faces.jpg

Out: train/ (images by person, to learn from), eval/ (images to label), gt/ (their classes and people) and demo.json
(the settings). An image depends only on the seed, the person and the file name, however many processes draw.
Everything is drawn in a hidden folder first and demo.json is written last: a folder with demo.json is complete.
"""

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from faces.drawing import HEIGHT, WIDTH, draw_portrait
from faces.options import DemoConfig
from faces.people import (
    EVAL,
    GROUPS,
    RACE,
    STEMS,
    TRAIN,
    Person,
    eval_people,
    plan,
    random_face,
    random_stream,
    random_years,
)
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels, LabelScheme, MaskLabels
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError, JobError
from runtime.failure import run
from runtime.files import replacing
from runtime.process import cpu_count

GROUND_TRUTH, SETTINGS, UNFINISHED, LOCK = "gt", "demo.json", ".unfinished", "lock"
QUALITY, SHEET_QUALITY = 90, 80  # of the JPEGs of the data set, and of the contact sheet


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Draw the data set, or the contact sheet, that the flags describe."""
    (config,) = parse("demo.py", argv, environ, DemoConfig)
    if config.contact_sheet:
        _save_contact_sheet(config.contact_sheet, config.seed)
        return
    if is_drawn(config):
        print(f"the demo is already drawn with these settings: {config.output_dir}")
        return
    people = plan(config)
    with _locked_folder(config.output_dir) as folder:
        draw_all(people, folder, config.threads or cpu_count())
        _write_tables(people, folder)
        for part in (GROUND_TRUTH, EVAL, TRAIN):
            (folder / part).rename(config.output_dir / part)
        with replacing(config.output_dir / SETTINGS) as file:
            json.dump(_settings(config), file, indent=2)
    counts = {split: sum(person.split == split for person in people) for split in (TRAIN, EVAL)}
    shares = [f"{count * len(STEMS)} images of {count} people in {split}/" for split, count in counts.items()]
    print(f"drew {' and '.join(shares)}: {config.output_dir}")


# ---- the images ----


def draw_all(people: Sequence[Person], folder: Path, processes: int) -> None:
    """Draw and write every image; on a terminal, with a progress bar.

    Raises JobError if a process that draws is killed.
    """
    draw = partial(draw_person, folder=folder)
    with contextlib.ExitStack() as stack:
        try:
            drawn: Iterable[None] = map(draw, people)
            if processes > 1:
                spawn = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(min(processes, len(people)), spawn, initializer=_end_with_parent)
                # After Ctrl-C this waits for the people in hand, which takes a moment. Only the pool may cancel
                # its futures: pool.map() cancels them, too, as soon as one fails, and when a worker was killed,
                # Python 3.11's pool then meets a cancelled future, stops with a traceback and never ends.
                stack.callback(pool.shutdown, cancel_futures=True)
                drawn = map(Future.result, [pool.submit(draw, person) for person in people])
            for _ in tqdm(drawn, "drawing", len(people), leave=False, unit="person", disable=not sys.stderr.isatty()):
                pass
        except BrokenProcessPool:
            raise JobError(
                f"one of the {processes} processes that draw was killed, as the kernel does without memory; start the "
                "command again, with a smaller --threads"
            ) from None


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end this worker when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_person(person: Person, folder: Path) -> None:
    """Draw and write the seven images of one person."""
    for stem, image in portraits(person):
        path = folder / person.path(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=QUALITY)


def portraits(person: Person) -> Iterator[tuple[str, Image.Image]]:
    """Draw the images of one person by file stem; each depends on nothing but the person and the stem."""
    stream = partial(random_stream, person.seed, person.split, person.number)
    face = random_face(person.gender, person.years, stream(0))
    for number, stem in enumerate(STEMS, start=1):
        yield stem, draw_portrait(face, MASK_OF_STEM[stem], stream(number))


def contact_sheet(seed: int, scheme: LabelScheme = MASKED_FACES) -> Image.Image:
    """Draw one face per class, each of another person, above the name of the class; a row per way to wear the mask.

    Raise DataError for a scheme whose classes are not mask x gender x age.
    """
    if [len(task.classes) for task in scheme.tasks] != [len(MaskLabels), len(GenderLabels), len(AgeLabels)]:
        raise DataError(f"only mask x gender x age can be drawn, not the classes of the label scheme {scheme.name!r}")
    width, height, margin, caption = WIDTH // 2, HEIGHT // 2, 12, 40
    cell = width + margin, height + caption
    sheet = Image.new("RGB", (len(GROUPS) * cell[0] + margin, len(MaskLabels) * cell[1] + margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for label, name in enumerate(scheme.classes):
        mask, gender, age = scheme.decode(label)
        rng = random_stream(seed, "contact-sheet", label)
        face = random_face(GenderLabels(gender), random_years(AgeLabels(age), rng), rng)
        left, top = margin + label % len(GROUPS) * cell[0], margin + mask * cell[1]
        sheet.paste(draw_portrait(face, MaskLabels(mask), rng).reduce(2), (left, top))
        lines = "\n".join(name.split(", ", 1))
        draw.multiline_text((left + width / 2, top + height + 3), lines, "black", font, "ma", align="center", spacing=2)
    return sheet


def _save_contact_sheet(path: Path, seed: int) -> None:
    if path.suffix.lower() not in (".jpg", ".png"):
        raise ConfigError(f"--contact-sheet must end in .jpg or .png: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(seed).save(path, quality=SHEET_QUALITY, optimize=True)
    print(f"drew a face of each class: {path}")


# ---- the folder ----


def is_drawn(config: DemoConfig) -> bool:
    """Return True if the folder holds this very demo, complete; raise DataError if it holds anything else."""
    folder = config.output_dir
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--output-dir is a file, expected a folder to draw into: {folder}")
    if (folder / SETTINGS).is_file():
        drawn = _read_settings(folder / SETTINGS)
        changed = [f"{key} {drawn.get(key)}" for key, value in _settings(config).items() if drawn.get(key) != value]
        if changed:
            raise DataError(
                f"--output-dir holds another demo ({', '.join(changed)}); remove it or name another: {folder}"
            )
        return True
    if folder.exists() and any(entry.name != UNFINISHED for entry in folder.iterdir()):
        raise DataError(f"--output-dir is not empty and holds no complete demo; remove it or name another: {folder}")
    return False


def _settings(config: DemoConfig) -> dict[str, Any]:
    """Return the settings that decide which images are drawn."""
    settings = asdict(replace(config, eval_people=eval_people(config)))
    return {name: settings[name] for name in ("people", "eval_people", "proportions", "seed")}


def _read_settings(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        if isinstance(settings := json.loads(path.read_text()), dict):
            return settings
    return {}


@contextlib.contextmanager
def _locked_folder(target: Path) -> Iterator[Path]:
    """Create a hidden folder inside `target` to draw in, locked for this process, and remove it afterwards.

    What a killed process left in it is deleted. It is inside `target`, which may be a mounted volume.
    """
    is_ours = not target.exists()
    folder = target / UNFINISHED
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(
            f"another process is drawing into --output-dir; wait for it or name another: {target}"
        ) from None
    try:
        for leftover in folder.iterdir():
            if leftover.name != LOCK:
                shutil.rmtree(leftover)
        yield folder
    finally:
        shutil.rmtree(folder)
        lock.release()
        if is_ours and not any(target.iterdir()):
            target.rmdir()


def _write_tables(people: Sequence[Person], folder: Path) -> None:
    """Write train.csv, info.csv, gt.csv and persons.csv; the last three list the test images in one random order."""
    trainees = [(p.id, p.gender.name.lower(), RACE, p.age, p.profile) for p in people if p.split == TRAIN]
    _write_csv(folder / TRAIN / "train.csv", ("id", "gender", "race", "age", "path"), sorted(trainees))
    labelled = [(person, stem) for person in people if person.split == EVAL for stem in STEMS]
    random_stream(people[0].seed, "order").shuffle(labelled)
    names = [Path(person.path(stem)).name for person, stem in labelled]
    columns: dict[str, tuple[str, list[Any]]] = {
        f"{EVAL}/info.csv": ("ans", [0] * len(names)),
        f"{GROUND_TRUTH}/gt.csv": ("ans", [person.label(stem) for person, stem in labelled]),
        f"{GROUND_TRUTH}/persons.csv": ("id", [person.id for person, _ in labelled]),
    }
    for path, (header, values) in columns.items():
        _write_csv(folder / path, ("ImageID", header), zip(names, values, strict=True))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:], os.environ))
