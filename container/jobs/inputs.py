"""From a flag that names data to the S3 folder that the job reads, and to what has to be uploaded to it first."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from data.samples import read_class_folders, read_profiles
from jobs.common import Place
from jobs.job_options import Training
from jobs.s3 import Upload, plan_upload
from runtime.errors import DataError

Staged = tuple[str, tuple[Upload, ...]]  # an S3 folder, with a slash at the end, and the upload that fills it


def stage(
    place: Place,
    flag: str,
    text: str,
    accept: Callable[[str], bool] = lambda name: True,
    expected: str = "files to upload",
) -> Staged:
    """The S3 folder of a flag that names a local folder or an S3 folder; of a local one, the files accepted by name.

    `expected` says what these files are. Raises DataError where there is none.
    """
    if text.startswith("s3://"):
        return text.rstrip("/") + "/", ()
    upload = plan_upload(Path(text), flag, place.uri("data"), accept, expected)
    return upload.uri, (upload,)


def training_channels(place: Place, options: Training, dataset: str) -> tuple[dict[str, str], tuple[Upload, ...]]:
    """The channels of a training job; a local data set is read as training will read it, before anything is sent."""
    if options.data and "://" not in options.data:
        read = read_class_folders if dataset == "ImageFolderDataset" else read_profiles
        read(Path(options.data), "--data")
    uri, uploads = stage(place, "data", options.data)
    channels = {"train": uri}
    if options.pretrained_data:
        channels["pretrained"], more = stage(place, "pretrained-data", options.pretrained_data)
        uploads += more
    _refuse_overflow(sum(upload.size_bytes for upload in uploads), options)
    return channels, uploads


def _refuse_overflow(size_bytes: int, options: Training) -> None:
    """Raise DataError for data that the disk of the machine cannot take, image and outputs aside."""
    if options.input_mode == "File" and size_bytes > options.volume_gb * 10**9:
        raise DataError(
            f"the data has {size_bytes / 1e9:.1f} GB, more than --volume-gb {options.volume_gb}; raise it, or read "
            f"while training with --input-mode FastFile: {options.data}"
        )


def needed_there(uris: Iterable[str], uploads: Sequence[Upload]) -> tuple[str, ...]:
    """The folders that no upload fills: they must be in S3 already."""
    filled = {upload.uri for upload in uploads}
    return tuple(uri for uri in uris if uri not in filled)


def refuse_large(uploads: Sequence[Upload], max_payload_mb: int) -> None:
    """Raise DataError for an image that SageMaker would not send to the container."""
    for upload in uploads:
        for name in upload.names:
            size = (upload.root / name).stat().st_size
            if size > max_payload_mb * 2**20:
                raise DataError(
                    f"an image has {size / 2**20:.1f} MB, more than --max-payload-mb {max_payload_mb}; raise it, and "
                    f"lower --concurrency: {upload.root / name}"
                )
