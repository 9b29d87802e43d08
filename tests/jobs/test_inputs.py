"""Data goes to S3 under the name of its contents, and what cannot work is said before it is sent."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import inputs
from jobs.common import Place
from jobs.inputs import needed_there, refuse_large, stage, training_channels
from jobs.job_options import Training
from jobs.s3 import Upload
from runtime.errors import DataError

PLACE = Place(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket")


def test_a_folder_is_uploaded_and_an_s3_folder_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    made, uploads = stage(PLACE, "data", str(tmp_path))
    assert made == uploads[0].uri
    there, none = stage(PLACE, "data", "s3://photos/faces")
    assert (there, none) == ("s3://photos/faces/", ())
    assert needed_there([made, there], uploads) == (there,)


def test_only_files_that_belong_there_are_uploaded(tmp_path: Path) -> None:
    for name in ("output.csv", "notes.txt"):
        (tmp_path / name).write_text("1")
    _, (upload,) = stage(PLACE, "predictions", str(tmp_path), "output.csv".__eq__)
    assert upload.names == ("output.csv",)
    with pytest.raises(DataError, match=r"--truth holds no file that belongs there, expected gt\.csv: "):
        stage(PLACE, "truth", str(tmp_path), "gt.csv".__eq__, "gt.csv")


def test_data_larger_than_the_disk_is_refused_unless_it_is_read_while_training(
    faces: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Training(data=str(faces(people=2)), volume_gb=50)
    large = Upload(Path(options.data), ("1.jpg",), "s3://my-bucket/data/faces-1/", 60 * 10**9)
    monkeypatch.setattr(inputs, "plan_upload", lambda *given: large)
    with pytest.raises(DataError, match=r"the data has 60\.0 GB, more than --volume-gb 50; raise it, or read while"):
        training_channels(PLACE, options, "")
    for fitting in (replace(options, volume_gb=70), replace(options, input_mode="FastFile")):
        assert training_channels(PLACE, fitting, "") == ({"train": large.uri}, (large,))


def test_an_image_larger_than_the_payload_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(2**20 + 1))
    _, uploads = stage(PLACE, "data", str(tmp_path))
    refuse_large(uploads, 2)
    with pytest.raises(DataError, match=r"an image has 1.0 MB, more than --max-payload-mb 1; .*a\.jpg"):
        refuse_large(uploads, 1)
