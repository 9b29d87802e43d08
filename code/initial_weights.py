"""The weights that training starts from: which they are, and the mean and std of the images that they were trained on.

They are a file as its authors published it, the weights that `make weights` has fetched, or a model of this job: its
folder or the model.tar.gz that SageMaker made of it. They are read before the data, because images are normalised with
their mean and std, and their sha256 belongs to the fingerprint of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from data.images import IMAGENET_MEAN, IMAGENET_STD
from description import DESCRIPTION
from model_files import ARCHIVE, WEIGHTS, read
from networks import efficientnet_lite
from networks.fetch import fetch, find_publication
from networks.timm_networks import is_timm, statistics_of
from pretrained import backbone_of, copy_fitting, find_weights, read_weights
from runtime.errors import ModelError
from weights_cache import Statistics, cache_dir, read_notes

IMAGENET = Statistics(IMAGENET_MEAN, IMAGENET_STD)
# torchvision creates these for ImageNet's mean and std and has them convert to these, but not without weights.
_HALF = Statistics((0.5,) * 3, (0.5,) * 3)
_CONVERTING = ("googlenet", "inception_v3")


@dataclass
class InitialWeights:
    """Weights to start from, with the model they are for, where they are from and what they are."""

    model: str
    where: str
    sha256: str
    statistics: Statistics | None  # None if nobody knows them
    state: Mapping[str, Tensor]

    def copy_into(self, network: nn.Module) -> str:
        """Copy them into a network, whose head may differ and then starts at zero; return which tensors were taken.

        Only once: the tensors are removed here, because they take as much memory as the network. Raises ModelError if
        they are not those of the model.
        """
        state, self.state = self.state, {}
        return copy_fitting(network, state, self.model, self.where)

    @classmethod
    def read(cls, model: str, pretrained: str, channel: Path | None) -> Self | None:
        """Return the weights that `--pretrained` names for `--model`, None if it names none.

        That is a file or a folder, download, none, or auto, which is the folder of the channel if there is one. Raises
        ModelError for anything that does not hold weights, or a model of another architecture.
        """
        if pretrained == "none" or (pretrained == "auto" and channel is None):
            return None
        if pretrained == "download":
            folder, _ = fetch_weights(model, cache_dir())
            return cls._from_file(model, find_weights(folder, model), str(folder))
        source = channel if pretrained == "auto" and channel else Path(pretrained)
        if (found := _find_model(source)) is not None:
            return cls._from_model(model, found)
        return cls._from_file(model, find_weights(source, model), str(source))

    @classmethod
    def _from_file(cls, model: str, path: Path, where: str) -> Self:
        state, sha256 = read_weights(path)
        notes = read_notes(path)
        if notes and notes.sha256 != sha256:
            raise ModelError(
                f"the weights are damaged, or others than the notes beside them say (sha256 differs); fetch them again "
                f"with `make weights`, or remove the notes: {path}"
            )
        return cls(model, where, sha256, notes.statistics if notes else _statistics_of(model, state), state)

    @classmethod
    def _from_model(cls, model: str, source: Path) -> Self:
        description, state, sha256 = read(source)
        if description.members:
            raise ModelError(
                f"an ensemble of {len(description.members)} models cannot be started from; give one of them, such as "
                f"output/data/cv/fold-1/model of `make cv`: {source}"
            )
        if description.architecture != model:
            raise ModelError(
                f"the weights to start from are of a model {description.architecture!r}, expected {model!r}; give "
                f"--model {description.architecture}, or other weights: {source}"
            )
        preparation = description.preparation
        return cls(model, str(source), sha256, Statistics(preparation.mean, preparation.std), state)


def _find_model(source: Path) -> Path | None:
    """Return the model of this job at a path: a model.tar.gz or a folder with its two files; None if there is none."""
    if source.is_file():
        return source if source.name.endswith(".tar.gz") else None
    if (source / WEIGHTS).is_file() and (source / DESCRIPTION).is_file():
        return source
    return source / ARCHIVE if (source / ARCHIVE).is_file() else None


def _statistics_of(model: str, state: Mapping[str, Tensor]) -> Statistics | None:
    """Return the mean and std of weights that somebody published for a model, None for a network of this job."""
    if efficientnet_lite.has_names_of_efficientnet_pytorch(state):
        return efficientnet_lite.STATISTICS
    return published_statistics(model)


def published_statistics(model: str) -> Statistics | None:
    """Return the mean and std of the weights that a model's library publishes, None for a network of this job."""
    if is_timm(model):
        return statistics_of(model)
    if model in ("BaseModel", "TinyModel"):
        return None
    return _HALF if model in _CONVERTING else IMAGENET


def fetch_weights(model: str, cache: Path, mirror: str = "") -> tuple[Path, bool]:
    """Fetch a model's weights into the cache, see networks/fetch.py; raises ModelError if none are published."""
    publication = find_publication(backbone_of(model), mirror)
    return fetch(model, publication, published_statistics(model) or IMAGENET, cache)
