"""A folder goes to S3 under a digest of its contents, and only the files that a job reads."""

from pathlib import Path

import pytest

from jobs.inputs import existing_inputs, resolve_input
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
