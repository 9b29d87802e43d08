"""What can go wrong, and how it speaks.

    JobError                  a sentence for the user, no traceback      exit code 1
    ├── ConfigError           a flag or hyperparameter                   exit code 2, as argparse
    ├── DataError             a file, a folder, a label
    │   └── ImageError        one image that cannot be used
    ├── ModelError            weights that are absent, damaged, or for another model
    ├── CheckpointError       a saved state that does not fit this run
    ├── DeviceError           the device cannot do it, for want of memory
    └── TrainingError         training itself broke down, such as a loss that is not finite

Anything else is our own bug: traceback, exit code 1.

A message is one sentence without a full stop: what is wrong and its value, what was expected, what to do.
Literals stand in quotes or backticks, a path comes last after a colon.
"""

import difflib
from collections.abc import Iterable


class JobError(Exception):
    """A mistake that the user can mend; shown as one sentence, without a traceback."""

    exit_code = 1


class ConfigError(JobError):
    """A flag, hyperparameter or variable has a value that the job cannot take."""

    exit_code = 2


class DataError(JobError):
    """A file, folder, table or label is missing or is not what the job reads."""


class ImageError(DataError):
    """One image cannot be used; `code` names the reason for machines (`undecodable_image`, `too_large`, `empty`)."""

    def __init__(self, message: str, code: str = "undecodable_image") -> None:
        super().__init__(message)
        self.code = code


class ModelError(JobError):
    """A model folder is missing, incomplete, damaged, or holds another architecture."""


class CheckpointError(JobError):
    """A checkpoint does not fit the configuration or the data of this run."""


class DeviceError(JobError):
    """The device has no memory for the work, however it is split."""


class TrainingError(JobError):
    """Training cannot go on, such as with a loss that is not finite."""


def unknown_name(kind: str, name: str, choices: Iterable[str], most: int = 8) -> str:
    """The sentence for a name that is not in `choices`: the nearest come first, at most `most` are listed."""
    names = sorted(choices)
    nearest = difflib.get_close_matches(name.lower(), [choice.lower() for choice in names], n=3, cutoff=0.5)
    names.sort(key=lambda choice: nearest.index(choice.lower()) if choice.lower() in nearest else len(nearest))
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    hint = f" (did you mean {names[0]!r}?)" if nearest else ""
    return f"unknown {kind} {name!r}{hint}; choose from {listed}"
