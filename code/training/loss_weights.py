"""What the losses of images and classes are multiplied by: a column of the label table, and --class-weights."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data.samples import Samples
from labelling.losses import positive_weights
from labelling.outputs import outputs_of
from labels import MULTI
from loss import balanced_class_weights
from runtime.errors import ConfigError, DataError

Indices = NDArray[np.int64]


def check_image_weights(samples: Samples, train: Indices, val: Indices, criterion: str) -> None:
    """Raise an error for images whose weights cannot count.

    ConfigError if the loss is no mean over images, or for other labels, and DataError if all training or validation
    images weigh nothing.
    """
    entrypoint = outputs_of(samples.scheme).entrypoint(criterion)  # also where no image has a weight
    if samples.weights is None:
        return
    if not hasattr(entrypoint, "per_image"):
        raise ConfigError(
            f"--criterion {criterion} is no mean over images, so the column weight of the images cannot count; choose "
            f"another loss, or remove the column: {samples.root}"
        )
    for indices, what in ((train, "training"), (val, "validation")):
        if not samples.weights[indices].any():
            raise DataError(
                f"the weights of all {what} images are 0, expected one above 0; correct the column weight: "
                f"{(what == 'validation' and samples.val_root) or samples.root}"
            )


def balanced_weights(samples: Samples, train: Indices, val: Indices) -> Tensor:
    """Return the class weights (classes,) that balance the training images; of several labels, the positive weights.

    Raises DataError if they leave nothing to validate with.
    """
    labels, own = samples.labels, None if samples.weights is None else samples.weights[train]
    if samples.scheme.kind == MULTI:
        return positive_weights(labels[train], own)
    weights = balanced_class_weights(labels[train], samples.scheme.num_classes, own)
    if not weights[labels[val]].any():
        raise DataError(
            "--class-weights balanced: no validation image is of a class that is trained on, so all weigh nothing; "
            "pass --class-weights none, or give images of more people"
        )
    return weights
