"""The errors that users can correct, and the rules for their messages.

    JobError                  a sentence for the user, no traceback      exit code 1
    ├── ConfigError           a flag or hyperparameter                   exit code 2, as argparse
    ├── DataError             a file, a folder, a label
    │   └── ImageError        one image that cannot be used
    ├── ModelError            weights that are missing, damaged, or of a different model
    ├── CheckpointError       a checkpoint that does not fit this run
    ├── DeviceError           a GPU that cannot be used, or a device without enough memory
    ├── DecodingError         decoding processes that cannot be started, or were killed
    ├── TrainingError         training that failed, such as with a loss that is not finite
    └── WorkerLost            a worker cannot continue because another one has ended     exit code 75

Any other exception is a bug: traceback, exit code 1.

A message is one sentence without a full stop: what is wrong with its value, what was expected, what to do.
Literals are in quotes or backticks, a path comes last after a colon.
"""

import difflib
from collections.abc import Iterable


class JobError(Exception):
    """A mistake that the user can correct; shown as one sentence, without a traceback."""

    exit_code = 1


class ConfigError(JobError):
    """A flag, hyperparameter or variable has a value that the job does not accept."""

    exit_code = 2


class DataError(JobError):
    """A file, folder, table or label is missing or has the wrong format."""


class ImageError(DataError):
    """One image cannot be used; `code` is the reason for programs (`undecodable_image`, `too_large`, `empty`)."""

    def __init__(self, message: str, code: str = "undecodable_image") -> None:
        super().__init__(message)
        self.code = code


class ModelError(JobError):
    """A model folder is missing, incomplete, damaged, or holds a different architecture."""


class CheckpointError(JobError):
    """A checkpoint does not fit the options or the data of this run."""


class DeviceError(JobError):
    """The GPU cannot be used, or the device has no memory for the work, even in the smallest micro-batches."""


class DecodingError(JobError):
    """The processes that decode images cannot be started, or were killed from outside."""


class TrainingError(JobError):
    """Training cannot continue, such as with a loss that is not finite."""


class WorkerLost(JobError):
    """A worker cannot continue because another one has ended.

    This is never the cause: training/worker_failures.py reports the sentence of the worker that ended first instead.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: a restart resumes


def reason_of(error: BaseException, most: int | None = 200) -> str:
    """Return the first line of the message of an error, at most `most` characters of it; its type if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def unknown_name(kind: str, name: str, choices: Iterable[str], most: int = 8) -> str:
    """Return the message for a name that is not in `choices`: the nearest first, at most `most` of them."""
    names = sorted(choices)
    nearest = difflib.get_close_matches(name.lower(), [choice.lower() for choice in names], n=3, cutoff=0.5)
    names.sort(key=lambda choice: nearest.index(choice.lower()) if choice.lower() in nearest else len(nearest))
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    hint = f" (did you mean {names[0]!r}?)" if nearest else ""
    return f"unknown {kind} {name!r}{hint}; choose from {listed}"
