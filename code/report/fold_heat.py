"""Heat maps of cross-validation: of each image by the model of its fold, which has not seen it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from augmentation import BaseAugmentation
from model_files import load
from report.heat import Explained, NoHeatMap
from report.layer_cam import LayerCam


@dataclass(frozen=True)
class FoldCam:
    """The models of the folds, and the fold of every image, (n,), counted from 1."""

    models: Sequence[Path]
    folds: NDArray[np.int64]
    device: torch.device

    def __call__(self, indices: Sequence[int], pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> Explained:
        """Return the heat of one of the `classes` (m,) for each of m images (m, height, width, 3), by their indices.

        One model after the other is loaded. Raises NoHeatMap if one has no heat maps, or a grid of its own.
        """
        folds, found = self.folds[list(indices)], {}
        maps: dict[int, NDArray[np.float32]] = {}
        for fold in np.unique(folds).tolist():
            network, description = load(self.models[fold - 1])
            chosen = np.flatnonzero(folds == fold)
            normalize = BaseAugmentation.of(description.preparation).normalize
            found[fold] = LayerCam(network.to(self.device), normalize, self.device)(pixels[chosen], classes[chosen])
            maps |= dict(zip(chosen.tolist(), found[fold].maps, strict=True))
        first = next(iter(found.values()))
        if any(its.grid != first.grid for its in found.values()):
            raise NoHeatMap("the models of the folds have grids of different sizes")
        layers = sorted({its.layer for its in found.values()})
        return Explained(np.stack([maps[place] for place in range(len(indices))]), " or ".join(layers), first.grid)
