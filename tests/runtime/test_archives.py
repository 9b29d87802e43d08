"""An archive is read within limits: what a member claims is compared before it is read or skipped."""

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from runtime.archives import ArchiveError, members, open_archive, read_member

BLOCK = tarfile.BLOCKSIZE


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


def header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT)


def read_all(path: Path, most_bytes: int = 1_000_000) -> dict[str, bytes]:
    with open_archive(path) as archive:
        return {found.name: read_member(archive, found, most_bytes) for found in members(archive, most_bytes)}


def write(path: Path, *parts: bytes) -> Path:
    with gzip.open(path, "wb") as file:
        for part in parts:
            file.write(part)
    return path


def test_members_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a", "\u00e9" * 200, "c"):
            archive.addfile(member(name, 3), io.BytesIO(b"abc"))
    assert read_all(path) == {"a": b"abc", "\u00e9" * 200: b"abc", "c": b"abc"}


HOSTILE = {
    "a member of 2^60 bytes": [header(member("large", 1 << 60))],
    "a member of 3 GB": [header(member("large", 3 << 30))],
    "a pax header of 11 GB": [header(member("x", 11 << 30, tarfile.XHDTYPE))],
    "a global pax header": [header(member("x", 11 << 30, tarfile.XGLTYPE))],
    "a long name of 1 TB": [header(member("x", 1 << 40, tarfile.GNUTYPE_LONGNAME))],
    "a negative size": [header(member("x", -1024))],
    "a sparse file": [header(member("x", 0, tarfile.GNUTYPE_SPARSE))],
    "ten thousand long names": [(header(member("x", 1, tarfile.GNUTYPE_LONGNAME)) + b"y".ljust(BLOCK, b"\0")) * 10_000],
    "many members": [header(member("x", 0)) * 10_001],
    "two files with the same name and too much together": [(header(member("x", 600_000)) + bytes(600_064)) * 2],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_costs_no_memory(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.tar.gz", *HOSTILE[kind], bytes(2 * BLOCK))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"the archive is (rejected|damaged)") as caught:
            read_all(path)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).endswith(f": {path}")


@pytest.mark.parametrize("name", ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size"])
def test_a_sparse_file_of_the_pax_format_is_rejected(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        sparse = member("sparse", 0)
        sparse.pax_headers = {name: "1", "GNU.sparse.minor": "0"}
        archive.addfile(sparse)
    with pytest.raises(ArchiveError, match="sparsely"):
        read_all(tmp_path / "a.tar.gz")


def test_a_size_in_a_pax_header_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        large = member("large", 0)
        large.pax_headers = {"size": str(1 << 60)}
        archive.addfile(large)
    with pytest.raises(ArchiveError, match="unpacks to"):
        read_all(tmp_path / "a.tar.gz")


def test_a_file_that_is_no_archive_and_one_that_is_cut_off_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"hello" * 1000)
    whole = write(tmp_path / "whole", header(member("x", 100_000)), bytes(100_352), bytes(2 * BLOCK)).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:60])
    for name in ("text", "cut"):
        with pytest.raises(ArchiveError, match="the archive is damaged"):
            read_all(tmp_path / name)


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_an_archive_with_changed_bytes_is_damaged_however_it_is_compressed(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.tar.{compression}"
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        content = " ".join(map(str, range(100_000))).encode()
        archive.addfile(member("x", len(content)), io.BytesIO(content))
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(100) + data[middle + 100 :])
    with pytest.raises(ArchiveError, match="the archive is damaged"):
        read_all(path)


def test_a_link_is_no_file(tmp_path: Path) -> None:
    link = member("link", 0, tarfile.SYMTYPE)
    link.linkname = "/etc/passwd"
    with pytest.raises(ArchiveError, match="'link' is a link or a device"):
        read_all(write(tmp_path / "a.tar.gz", header(link), bytes(2 * BLOCK)))
