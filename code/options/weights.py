"""Every option and the folder of the command that fetches weights. No torch, no pandas."""

from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import folder, option
from weights_cache import CACHE_VARIABLE


@dataclass(frozen=True, kw_only=True)
class WeightsPaths:
    """The folder that the command writes."""

    cache_dir: Path | None = folder(
        CACHE_VARIABLE, None, "folder for the weights; default: mask-classifier/weights in XDG_CACHE_HOME or ~/.cache"
    )


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Options of the command."""

    model: str = option("", "architecture to fetch weights for, such as resnet18 or timm/convnext_tiny")
    mirror: str = option("", "address to fetch from, instead of that of torchvision or Hugging Face")

    def problems(self) -> list[str]:
        """Return a sentence for each missing or malformed option."""
        problems = [] if self.model else ["--model: required, such as --model resnet18 (make weights MODEL=resnet18)"]
        if self.mirror and not self.mirror.startswith(("http://", "https://")):
            problems.append(f"--mirror: {self.mirror!r} is not an address, such as https://example.org/models")
        return problems
