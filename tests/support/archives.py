"""A model.tar.gz, as SageMaker leaves it."""

import tarfile
from pathlib import Path


def archive_of(folder: Path, target: Path) -> Path:
    """Pack the files of a model folder at the top of a tar with gzip; return it."""
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return target
