"""Draw a data set of faces, in the layout of the competition, for everyone who has no photographs at hand.

    python code/demo.py --output-dir demo
    python code/demo.py --output-dir faces --people 2700 --proportions competition

Out: train/ (photographs by person, to learn from), eval/ (to label), gt/ (the answers, and whose picture is whose) and
demo.json (the settings). A picture depends on nothing but the seed, the person and the file name, however many
processes draw. All is drawn in a hidden folder first and demo.json is written last: a folder that has one is complete.
"""

import contextlib
import csv
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from config import DemoConfig
from demo_face import draw_face
from demo_pen import HEIGHT, WIDTH
from demo_people import EVAL, GROUPS, RACE, STEMS, TRAIN, Person, draw_years, eval_people, plan, random_stream
from demo_portrait import draw_portrait
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels, LabelScheme, MaskLabels
from runtime.arguments import parse
from runtime.errors import DataError
from runtime.failure import run
from runtime.files import replacing
from runtime.process import cpu_count

TRUTH, SETTINGS, UNFINISHED = "gt", "demo.json", ".unfinished"
QUALITY = 90  # of the JPEGs


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """The command: flags in, a data set out."""
    (config,) = parse("demo.py", argv, environ, DemoConfig)
    if is_drawn(config):
        print(f"the demo is already drawn with these settings: {config.output_dir}")
        return
    people = plan(config)
    with _workshop(config.output_dir) as folder:
        draw_all(people, folder, config.threads or cpu_count())
        _write_tables(people, folder)
        for part in (TRUTH, EVAL, TRAIN):
            (folder / part).rename(config.output_dir / part)
        with replacing(config.output_dir / SETTINGS) as file:
            json.dump(_settings(config), file, indent=2)
    counts = {split: sum(person.split == split for person in people) for split in (TRAIN, EVAL)}
    shares = [f"{count * len(STEMS)} pictures of {count} people in {split}/" for split, count in counts.items()]
    print(f"drew {' and '.join(shares)}: {config.output_dir}")


# ---- the pictures ----


def draw_all(people: Sequence[Person], folder: Path, processes: int) -> None:
    """Draw and write every picture; on a terminal, with a bar."""
    draw = partial(draw_person, folder=folder)
    with contextlib.ExitStack() as stack:
        drawn: Iterable[None] = map(draw, people)
        if processes > 1:
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(min(processes, len(people)), spawn, initializer=_end_with_parent)
            stack.callback(pool.shutdown, cancel_futures=True)
            drawn = pool.map(draw, people)
        for _ in tqdm(drawn, "drawing", len(people), leave=False, unit="person", disable=not sys.stderr.isatty()):
            pass


def _end_with_parent() -> None:
    """Let Ctrl-C be the parent's business, and leave no process behind when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_person(person: Person, folder: Path) -> None:
    """Draw and write the seven pictures of one person."""
    for stem, picture in portraits(person):
        path = folder / person.path(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=QUALITY)


def portraits(person: Person) -> Iterator[tuple[str, Image.Image]]:
    """The pictures of one person by file stem; each a function of seed, split, number, gender, years and stem alone."""
    stream = partial(random_stream, person.seed, person.split, person.number)
    face = draw_face(person.gender, person.years, stream(0))
    for number, stem in enumerate(STEMS, start=1):
        yield stem, draw_portrait(face, MASK_OF_STEM[stem], stream(number))


def contact_sheet(seed: int, scheme: LabelScheme = MASKED_FACES) -> Image.Image:
    """One face per class, each of another person, with the names of the classes: a row per way to wear the mask.

    Raises DataError for a scheme whose classes are not mask x gender x age.
    """
    if [len(task.classes) for task in scheme.tasks] != [len(MaskLabels), len(GenderLabels), len(AgeLabels)]:
        raise DataError(f"only mask x gender x age can be drawn, not the classes of the label scheme {scheme.name!r}")
    width, height, margin, caption = WIDTH // 2, HEIGHT // 2, 12, 40
    cell = width + margin, height + caption
    sheet = Image.new("RGB", (len(GROUPS) * cell[0] + margin, len(MaskLabels) * cell[1] + margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for label, name in enumerate(scheme.classes):
        mask, gender, age = scheme.decode(label)
        rng = random_stream(seed, "sheet", label)
        face = draw_face(GenderLabels(gender), draw_years(AgeLabels(age), rng), rng)
        left, top = margin + label % len(GROUPS) * cell[0], margin + mask * cell[1]
        sheet.paste(draw_portrait(face, MaskLabels(mask), rng).reduce(2), (left, top))
        lines = "\n".join(name.split(", ", 1))
        draw.multiline_text((left + width / 2, top + height + 3), lines, "black", font, "ma", align="center", spacing=2)
    return sheet


# ---- the folder ----


def is_drawn(config: DemoConfig) -> bool:
    """Whether the folder holds this very demo, complete; raises DataError if it holds anything else."""
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
    """What decides which pictures are drawn."""
    settings = asdict(replace(config, eval_people=eval_people(config)))
    return {name: settings[name] for name in ("people", "eval_people", "proportions", "seed")}


def _read_settings(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        if isinstance(settings := json.loads(path.read_text()), dict):
            return settings
    return {}


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A hidden folder inside `target` to draw in, for one process at a time; afterwards it is gone.

    What a killed process left there is thrown away. Inside, not beside, since `target` may be a mounted volume.
    """
    is_ours = not target.exists()
    folder = target / UNFINISHED
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataError(
            f"another process is drawing into --output-dir; wait for it or name another: {target}"
        ) from None
    try:
        for leftover in folder.iterdir():
            shutil.rmtree(leftover)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(descriptor)
        if is_ours and not any(target.iterdir()):
            target.rmdir()


def _write_tables(people: Sequence[Person], folder: Path) -> None:
    """train.csv, info.csv, gt.csv and persons.csv; those about pictures to label in one order, that of no folder."""
    trainees = [(p.id, p.gender.name.lower(), RACE, p.age, p.profile) for p in people if p.split == TRAIN]
    _write_csv(folder / TRAIN / "train.csv", ("id", "gender", "race", "age", "path"), sorted(trainees))
    labelled = [(person, stem) for person in people if person.split == EVAL for stem in STEMS]
    random_stream(people[0].seed, "order").shuffle(labelled)
    names = [Path(person.path(stem)).name for person, stem in labelled]
    columns: dict[str, tuple[str, list[Any]]] = {
        f"{EVAL}/info.csv": ("ans", [0] * len(names)),
        f"{TRUTH}/gt.csv": ("ans", [person.label(stem) for person, stem in labelled]),
        f"{TRUTH}/persons.csv": ("id", [person.id for person, _ in labelled]),
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
