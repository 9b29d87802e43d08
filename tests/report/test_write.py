"""write.py and the page: every file is written, the page needs no other, and its numbers equal scikit-learn's."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from labels import MASKED_FACES, LabelScheme
from report.write import write_report

HOSTILE = '"><script>alert(1)</script>'
ANIMALS = LabelScheme("animals", ("cat", "dog", "horse"))
CHARTS = ("curves", "confusion", "confusion_mask", "confusion_gender", "confusion_age", "calibration")


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text with single spaces."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get(attribute)) is not None]


def history(epochs: int, scheme: LabelScheme) -> list[dict[str, float]]:
    names = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_f1", "learning_rate"]
    names += [f"val_{task.name}_f1" for task in scheme.tasks]
    return [{"epoch": epoch} | dict.fromkeys(names, epoch / (epoch + 1)) for epoch in range(1, epochs + 1)]


def predict(classes: int, images: int, lead: float = 2.0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return labels (images,), and probabilities (images, classes); a larger `lead` makes more of them right."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    logits = random.normal(0, 1, (images, classes))
    logits[np.arange(images), labels] += lead
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def write(
    folder: Path,
    scheme: LabelScheme = MASKED_FACES,
    *,
    epochs: int = 3,
    lead: float = 2.0,
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (128, 96),
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write a report about 300 images of noise (height, width), and check that it returns the path of its page."""
    labels, probabilities = predict(scheme.num_classes, 300, lead)
    path = write_report(
        folder,
        title="exp: TinyModel",
        scheme=scheme,
        history=history(epochs, scheme),
        labels=labels,
        probabilities=probabilities,
        names=names or [f"{index:06}_female_Asian_45/mask1.jpg" for index in range(300)],
        pixels=lambda index: np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8),
        settings=settings or {"epochs": epochs, "metric": "f1"},
    )
    assert path == folder / "report.html"
    return folder


def read(folder: Path) -> Elements:
    return Elements((folder / "report.html").read_text())


def images_of(page: Elements) -> list[bytes]:
    return [base64.b64decode(source.split(",")[1]) for source in page.values("src")]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report about masked faces."""
    return write(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a scheme without tasks, after one epoch, without mistakes."""
    return write(tmp_path_factory.mktemp("perfect"), ANIMALS, epochs=1, lead=50.0)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a run that was stopped in its first epoch, with large images and hostile names."""
    scheme = LabelScheme("hostile", (HOSTILE, "<img src=x>"))
    settings = {HOSTILE: {"<b>": Path("<i>")}}
    folder = tmp_path_factory.mktemp("stopped")
    return write(folder, scheme, epochs=0, lead=0.0, names=[HOSTILE] * 300, size=(512, 384), settings=settings)


def test_the_folder_holds_every_file_and_no_other(faces: Path) -> None:
    pngs = {f"{name}.png" for name in (*CHARTS, "mistakes")}
    assert {path.name for path in faces.iterdir()} == pngs | {"metrics.json", "report.html"}
    for name in pngs:
        with Image.open(faces / name) as image:
            image.verify()


def test_the_page_needs_no_other_file_and_no_network(faces: Path) -> None:
    text = (faces / "report.html").read_text()
    page = Elements(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(
        source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.values("src")
    )
    assert {link.removeprefix("#") for link in page.values("href")} == set(page.values("id"))


def test_the_page_holds_every_chart_and_24_readable_mistakes(faces: Path) -> None:
    embedded = images_of(read(faces))
    assert embedded[: len(CHARTS)] == [(faces / f"{name}.png").read_bytes() for name in CHARTS]
    assert len(embedded) == len(CHARTS) + 24
    for data in embedded[len(CHARTS) :]:
        assert Image.open(io.BytesIO(data)).size == (96, 128)


def test_the_page_stays_small_even_with_images_of_noise(faces: Path) -> None:
    assert (faces / "report.html").stat().st_size < 1_500_000


def test_metrics_and_page_agree_with_scikit_learn(faces: Path) -> None:
    labels, probabilities = predict(18, 300)
    predictions = probabilities.argmax(axis=1)
    record = json.loads((faces / "metrics.json").read_text())
    macro_f1 = f1_score(labels, predictions, average="macro")
    assert record["scores"]["f1"] == pytest.approx(macro_f1)
    assert record["scores"]["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    shown = read(faces).text
    assert f"Macro F1{macro_f1:.3f}" in shown
    assert f"300 validation images, {(labels != predictions).sum()} of them predicted wrongly" in shown


def test_the_page_names_the_worst_mistake_and_the_worst_group(faces: Path) -> None:
    labels, probabilities = predict(18, 300)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[probabilities[wrong].max(axis=1).argmax()]
    shown = read(faces).text
    assert f"confidence {probabilities[worst].max():.1%}{worst:06}_female_Asian_45/mask1.jpg" in shown
    groups = json.loads((faces / "metrics.json").read_text())["groups"]
    ranked = sorted(groups, key=lambda group: float(group["accuracy"]))
    worst_group, best_group = (
        f"{group['accuracy']:.3f} ({group['group']['gender']}, {group['group']['age']})"
        for group in (ranked[0], ranked[-1])
    )
    assert f"Accuracy by group, worst first, from {worst_group} to {best_group}." in shown


def test_the_same_predictions_give_the_same_bytes(faces: Path, tmp_path: Path) -> None:
    write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in faces.iterdir()
    }


def test_no_name_or_setting_becomes_markup(stopped: Path) -> None:
    page = read(stopped)
    assert not {"script", "i"} & {tag for tag, _ in page.tags}
    assert "x" not in page.values("src")
    assert page.text.count(HOSTILE) > 24
    assert "{'<b>': PosixPath('<i>')}" in page.text


def test_large_images_are_scaled_down_for_the_page(stopped: Path) -> None:
    assert Image.open(io.BytesIO(images_of(read(stopped))[-1])).size == (144, 192)


def test_a_run_stopped_in_its_first_epoch_has_a_report_without_curves(stopped: Path) -> None:
    page = read(stopped)
    assert not (stopped / "curves.png").exists()
    assert "learning-curves" not in page.values("id")
    assert "by the network of the first epoch, in which training was stopped" in page.text
    assert json.loads((stopped / "metrics.json").read_text())["best_epoch"] == 0


def test_a_scheme_without_tasks_has_no_groups(perfect: Path) -> None:
    assert not list(perfect.glob("confusion_*"))
    assert "groups" not in read(perfect).values("id")
    assert json.loads((perfect / "metrics.json").read_text())["groups"] == []


def test_without_mistakes_the_page_says_so(perfect: Path) -> None:
    assert "No mistakes: every validation image is predicted correctly." in read(perfect).text
    assert "300 validation images, 0 of them predicted wrongly by the network of the best epoch" in read(perfect).text
    assert not (perfect / "mistakes.png").exists()


def test_more_than_30_classes_are_collapsed(tmp_path: Path) -> None:
    page = read(write(tmp_path, LabelScheme("breeds", tuple(f"breed {label}" for label in range(120)))))
    assert "details" in {tag for tag, _ in page.tags}
    assert "all 120 classes" in page.text
    assert len(json.loads((tmp_path / "metrics.json").read_text())["classes"]) == 120


def test_the_page_says_that_many_classes_are_drawn_as_the_most_confused(tmp_path: Path) -> None:
    names = tuple(f"class {label}" for label in range(50))
    many, few = LabelScheme("many", names), LabelScheme("few", names[:40])
    assert "Of 50 classes, the 40 with the most wrong predictions" in read(write(tmp_path / "many", many)).text
    assert "with the most wrong predictions" not in read(write(tmp_path / "few", few)).text
