"""Folders go up whole and only once; archives come down without leaving their folder."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from moto import mock_aws

from data.images import is_image_file
from jobs.aws import Aws, AwsError
from jobs.common import Connection
from jobs.s3 import Upload, extract, fetch, fetch_folder, list_objects, plan_upload, send, split_uri
from runtime.errors import DataError

PARENT = "s3://my-bucket/data"


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        aws = Aws(Connection(region="us-east-1"))
        aws.call("s3", "CreateBucket", Bucket="my-bucket")
        yield aws


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images, a table, and litter that belongs to other systems."""
    root = tmp_path / "my faces"
    for name in ("a/1.jpg", "b/2.JPG", "info.csv", ".DS_Store", ".git/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"abc") if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_folder_arrives_as_it_is_without_hidden_files(aws: Aws, folder: Path, tmp_path: Path) -> None:
    upload = plan_upload(folder, "data", PARENT)
    assert send(aws, upload, None) == 3
    fetch_folder(aws, upload.uri, tmp_path / "back")
    arrived = {path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*.*")}
    assert arrived == {"a/1.jpg", "b/2.JPG", "info.csv"}
    assert (tmp_path / "back/a/1.jpg").read_text() == "a/1.jpg"


def test_the_same_folder_is_uploaded_once_and_an_interrupted_upload_is_resumed(aws: Aws, folder: Path) -> None:
    upload = plan_upload(folder, "data", PARENT)
    send(aws, upload, None)
    assert send(aws, upload, None) == 0
    bucket, key = split_uri(upload.uri + "a/1.jpg")
    aws.call("s3", "DeleteObject", Bucket=bucket, Key=key)
    assert send(aws, plan_upload(folder, "data", PARENT), None) == 1


def test_the_place_of_a_folder_follows_from_its_contents_alone(folder: Path, tmp_path: Path) -> None:
    first = plan_upload(folder, "data", PARENT)
    assert first.uri.startswith("s3://my-bucket/data/my-faces-")
    assert plan_upload(folder, "data", PARENT) == first
    (folder / "a/1.jpg").write_text("A/1.jpg")  # as long as before
    changed = plan_upload(folder, "data", PARENT)
    (folder / "a/1.jpg").rename(folder / "a/3.jpg")
    renamed = plan_upload(folder, "data", PARENT)
    assert len({first.uri, changed.uri, renamed.uri}) == 3


def test_only_what_belongs_there_is_uploaded(folder: Path) -> None:
    assert plan_upload(folder, "data", PARENT, is_image_file).names == ("a/1.jpg", "b/2.JPG")


def test_uploads_are_encrypted_with_the_key_that_was_given(aws: Aws, folder: Path) -> None:
    upload = plan_upload(folder, "data", PARENT)
    send(aws, upload, "key-1")
    bucket, key = split_uri(upload.uri + "a/1.jpg")
    answer = aws.call("s3", "HeadObject", Bucket=bucket, Key=key)
    assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", "key-1")


def test_an_upload_into_a_missing_bucket_is_a_sentence(aws: Aws, folder: Path) -> None:
    with pytest.raises(AwsError, match="the bucket is not in S3"):
        send(aws, plan_upload(folder, "data", "s3://nowhere/data"), None)


def test_a_file_that_vanishes_during_the_upload_is_named(aws: Aws, folder: Path) -> None:
    upload = plan_upload(folder, "data", PARENT)
    (folder / "a/1.jpg").unlink()
    with pytest.raises(DataError, match=r"a file vanished during the upload; submit again: .*a/1.jpg"):
        send(aws, upload, None)


def test_a_file_that_changes_after_its_digest_is_named_and_not_left_in_s3(
    aws: Aws, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sentence = folder / "a/1.jpg", r"a file changed during the upload; submit again: .*a/1.jpg"
    upload = plan_upload(folder, "data", PARENT)
    path.write_text("other bytes")
    with pytest.raises(DataError, match=sentence):
        send(aws, upload, None)

    def change_while_reading(upload: Upload, name: str) -> BinaryIO:
        if name == "a/1.jpg":
            path.write_text("still others")
        return (upload.root / name).open("rb")

    upload = plan_upload(folder, "data", PARENT)
    monkeypatch.setattr(Upload, "open", change_while_reading)
    with pytest.raises(DataError, match=sentence):
        send(aws, upload, None)
    assert not [entry for entry in list_objects(aws, upload.uri) if entry["Key"].endswith("a/1.jpg")]


@pytest.mark.parametrize(("name", "sentence"), [("nowhere", "does not exist"), ("empty", "is empty")])
def test_there_must_be_something_to_upload(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"--data {sentence}"):
        plan_upload(tmp_path / name, "data", PARENT)


def test_a_folder_without_images_is_rejected_where_images_are_expected(tmp_path: Path) -> None:
    (tmp_path / "info.csv").write_text("")
    with pytest.raises(DataError, match="no matching files in --data"):
        plan_upload(tmp_path, "data", PARENT, is_image_file)


def test_links_to_files_and_folders_are_uploaded_as_what_they_lead_to(aws: Aws, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/4.jpg").write_text("4")
    (folder / "c").symlink_to(tmp_path / "more")
    (folder / "a/back").symlink_to(folder)
    (folder / "a/2.jpg").symlink_to(folder / "a/1.jpg")
    upload = plan_upload(folder, "data", PARENT, is_image_file)
    assert upload.names == ("a/1.jpg", "a/2.jpg", "b/2.JPG", "c/4.jpg")
    send(aws, upload, None)
    fetch_folder(aws, upload.uri, tmp_path / "back")
    assert [(tmp_path / "back" / name).read_text() for name in upload.names] == ["a/1.jpg", "a/1.jpg", "b/2.JPG", "4"]


def test_litter_broken_links_and_pipes_are_ignored_and_named(folder: Path) -> None:
    before = plan_upload(folder, "data", PARENT)
    (folder / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir/1.jpg").write_text("thumbnail")
    upload = plan_upload(folder, "data", PARENT)
    assert (upload.names, upload.uri) == (before.names, before.uri)
    assert upload.ignored == {
        "litter of file systems and tools": ["@eaDir"],
        "broken links": ["gone.jpg"],
        "pipes and devices": ["pipe.jpg"],
    }


def test_a_name_that_is_not_utf_8_is_rejected(folder: Path) -> None:
    (folder / "notiz\udce4.txt").write_text("in Latin-1")
    with pytest.raises(DataError, match=r"is not UTF-8, rename the file"):
        plan_upload(folder, "data", PARENT)


def test_temporary_files_of_a_killed_download_are_removed(aws: Aws, tmp_path: Path) -> None:
    aws.call("s3", "PutObject", Bucket="my-bucket", Key="p/a.out", Body=b"a")
    (tmp_path / ".a.out.x7_abcde.tmp").write_text("half")
    (tmp_path / ".notes.2024.tmp").write_text("somebody else's")
    (tmp_path / ".a.out.2024.tmp").write_text("somebody else's")
    (tmp_path / ".a.b.tmp").mkdir()
    fetch_folder(aws, "s3://my-bucket/p/", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.out", ".notes.2024.tmp", ".a.out.2024.tmp", ".a.b.tmp"}


def test_objects_are_listed_over_many_pages(aws: Aws) -> None:
    for index in range(3):
        aws.call("s3", "PutObject", Bucket="my-bucket", Key=f"p/{index}")
    assert [entry["Key"] for entry in list_objects(aws, "s3://my-bucket/p/")] == ["p/0", "p/1", "p/2"]


def test_a_missing_object_is_named_and_leaves_no_file(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(AwsError) as caught:
        fetch(aws, "s3://my-bucket/nothing", tmp_path / "model.tar.gz")
    assert caught.value.is_absent
    assert str(caught.value).endswith(": s3://my-bucket/nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_leads_out_of_the_folder_is_rejected(aws: Aws, tmp_path: Path) -> None:
    aws.call("s3", "PutObject", Bucket="my-bucket", Key="p/../../evil.txt", Body=b"")
    with pytest.raises(DataError, match="leads out of the folder"):
        fetch_folder(aws, "s3://my-bucket/p", tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_too_long_for_a_file_is_downloaded(aws: Aws, tmp_path: Path) -> None:
    names = ("deep/" + "x" * 255 + ".out", "y" * 251 + ".out", "a.out")
    for name in names:
        aws.call("s3", "PutObject", Bucket="my-bucket", Key=f"p/{name}", Body=name.encode())
    files = fetch_folder(aws, "s3://my-bucket/p", tmp_path)
    assert {name: path.read_text() for name, path in files.items()} == {name: name for name in names}
    assert files["a.out"] == tmp_path / "a.out"


def test_regular_files_are_extracted(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.tar.gz", member("exp", tarfile.DIRTYPE), member("exp/a.txt"), member("./b.txt"))
    files = extract(path, tmp_path / "there")
    assert [file.relative_to(tmp_path / "there").as_posix() for file in files] == ["exp/a.txt", "b.txt"]
    assert files[0].read_bytes() == b"abc"
    assert files[0].stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt"])
def test_a_member_that_leads_out_of_the_folder_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leads out of the folder"):
        extract(archive(tmp_path / "m.tar.gz", member(name)), tmp_path / "there")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_rejected(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match="is a link or a device"):
        extract(archive(tmp_path / "m.tar.gz", member("model", kind, "/etc/passwd")), tmp_path / "there")


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.tar.gz", *(member(f"{index}.txt") for index in range(200)))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not an archive", whole[:60] + b"\xff" * 60 + whole[120:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="the archive is damaged"):
            extract(path, tmp_path / "there")


def test_a_disk_that_cannot_be_written_is_not_called_a_damaged_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.tar.gz", member("a.txt"))
    (tmp_path / "there").write_text("a file, not a folder")
    with pytest.raises(FileExistsError):
        extract(path, tmp_path / "there")
