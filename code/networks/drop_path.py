"""Stochastic depth (Huang et al., Deep Networks with Stochastic Depth, 2016), which timm calls drop path.

In training each residual block is left out at random for a part of the images: the first never, the last most often.
"""

from torch import nn

from runtime.errors import ConfigError

_RATES = {"StochasticDepth": "p", "DropPath": "drop_prob"}  # torchvision's and timm's modules, and where they keep it


def set_drop_path(model: nn.Module, rate: float, name: str) -> None:
    """Set the probability that the last residual block is left out; those of the others keep their ratio to it.

    That is the slope from 0 to `rate` that the constructors of torchvision and timm make. Raises ConfigError for a
    network without drop path, unless `rate` is 0; `name` is its name.
    """
    found = [(module, _RATES[kind]) for module in model.modules() if (kind := type(module).__name__) in _RATES]
    largest = max((float(getattr(module, key)) for module, key in found), default=0.0)
    if not largest and rate:
        raise ConfigError(without_drop_path(name))
    for module, key in found:
        setattr(module, key, float(getattr(module, key)) * rate / (largest or 1))


def without_drop_path(name: str) -> str:
    """Return the sentence for the name of a network without drop path."""
    return (
        f"--drop-path: model {name!r} has none; leave it out, or choose a network with it, such as efficientnet_b0 or "
        "convnext_tiny"
    )
