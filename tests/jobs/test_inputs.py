"""A folder goes to S3 under a digest of its contents, and only the files that a job reads."""

from pathlib import Path

import pytest

from jobs.inputs import existing_inputs, resolve_images, resolve_input
from runtime.errors import DataError
from support.job_requests import LOCATION


def test_a_folder_is_uploaded_and_an_s3_folder_must_exist(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    local, uploads = resolve_input(LOCATION, "data", str(tmp_path))
    assert local == uploads[0].uri
    there, none = resolve_input(LOCATION, "data", "s3://photos/faces")
    assert (there, none) == ("s3://photos/faces/", ())
    assert existing_inputs([local, there], uploads) == (there,)


def test_only_files_that_the_job_reads_are_uploaded(tmp_path: Path) -> None:
    for name in ("output.csv", "notes.txt"):
        (tmp_path / name).write_text("1")
    _, (upload,) = resolve_input(LOCATION, "predictions", str(tmp_path), "output.csv".__eq__)
    assert upload.names == ("output.csv",)
    with pytest.raises(DataError, match=r"no matching files in --ground-truth, expected gt\.csv: "):
        resolve_input(LOCATION, "ground-truth", str(tmp_path), "gt.csv".__eq__, "gt.csv")


def write_images(folder: Path, *names: str, info: str = "") -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    if info:
        (folder / "info.csv").write_text(info)
    return str(folder)


def test_the_images_of_info_csv_are_uploaded_whatever_their_ending_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("0012", "b7c1", "photo.jfif", "c.jpg", "cafe\u0301.jpg")
    info = "ImageID\n0012\nb7c1\nphoto.jfif\nc.jpg\nc.jpg\ncaf\u00e9.jpg\nlost.jpg\n"
    data = write_images(tmp_path, *(f"images/{name}" for name in names), "cover.jpg", "images/d.jpg", info=info)
    uri, (upload,) = resolve_images(LOCATION, "data", data)
    assert upload.names == tuple(sorted(f"images/{name}" for name in names))
    assert upload.uri == uri
    assert capsys.readouterr().err == "warning: 1 of 7 images do not exist: lost.jpg\n"


def test_without_info_csv_other_files_are_named_and_not_uploaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, (upload,) = resolve_images(LOCATION, "data", write_images(tmp_path, "a.jpg", "b.heic", "deep/b.PNG"))
    assert upload.names == ("a.jpg", "deep/b.PNG")
    assert "other files ignored: 1 (b.heic)" in capsys.readouterr().err


def test_an_s3_folder_of_images_must_exist() -> None:
    assert resolve_images(LOCATION, "data", "s3://photos/faces") == ("s3://photos/faces/", ())


@pytest.mark.parametrize(
    ("names", "info", "sentence"),
    [
        (("notes.txt",), "", "no images to label, expected rows in info.csv or image files"),
        (("caf\udce9.jpg",), "", r"the name 'caf\\udce9\.jpg' is not UTF-8, rename the file or folder"),
        (("deep/a.jpg",), "ImageID\na.jpg\n", r"none of the 1 images of --data exists, such as 'a\.jpg'"),
        (
            ("a.jpg",),
            "ImageID\n../a.jpg\n",
            r"row 2 of info\.csv has the ImageID '\.\./a\.jpg', expected the path of an",
        ),
        (
            ("a.jpg",),
            "ImageID\n/etc/a.jpg\n",
            r"row 2 of info\.csv has the ImageID '/etc/a\.jpg', expected the path of an",
        ),
    ],
)
def test_images_that_cannot_be_uploaded_are_one_sentence(
    tmp_path: Path, names: tuple[str, ...], info: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        resolve_images(LOCATION, "data", write_images(tmp_path, *names, info=info))
