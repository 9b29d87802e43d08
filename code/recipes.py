"""Recipes: named sets of options of train.py. No torch.

    python code/train.py --recipe finetune --model resnet18 --pretrained resnet18.pth --epochs 10

Each option that is given overrides the value of the recipe; config.json holds the name and what came out. A recipe sets
what suits images of any kind: what suits faces alone (`--crop`, `--head factored`) stays with the user. `auto` is how
`make train` and `submit.py train` choose. In Python, `TrainConfig(**RECIPES["finetune"])`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runtime.errors import ConfigError

AUTO = "auto"
Recipe = Mapping[str, Any]

# What is common to training from scratch and fine-tuning on a few hundred to thousands of images.
_FEW_IMAGES: Recipe = {
    "augmentation": "StrongAugmentation",
    "cutmix": 0.5,
    "cutmix_shape": "strip",
    "criterion_args": {"label_smoothing": 0.1},
    "optimizer": "AdamW",
    "weight_decay": 0.05,
    "schedule": "onecycle",
    "ema_decay": 0.99,
}
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "original": {},  # the defaults, which are those of the original pipeline
        "scratch": {**_FEW_IMAGES, "model": "TinyModel", "epochs": 80, "lr": 0.003},
        "finetune": {
            **_FEW_IMAGES,
            "epochs": 8,
            "batch_size": 32,
            "resize": (320, 240),
            "lr": 0.002,
            "head_lr": 0.003,
            "layer_decay": 0.9,
            # The averaged weights at the end of a schedule that falls to zero. The best of few epochs that are all good
            # is the luckiest one on few validation images.
            "select": "last",
        },
    }
)
# What a recipe does not set if another option is given: arguments are of its own criterion or augmentation, and whoever
# stops early or names a metric wants the best epoch.
_GIVES_WAY_TO = {
    "criterion_args": {"criterion"},
    "augmentation_args": {"augmentation"},
    "select": {"patience", "metric"},
}


def options_of(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a recipe sets beside those that are given; `auto` sets none before it is chosen."""
    return {
        name: value
        for name, value in RECIPES.get(recipe, {}).items()
        if name not in given and _GIVES_WAY_TO.get(name, set()).isdisjoint(given)
    }


def choose(*, has_weights: bool, kept: str = "") -> str:
    """Return the recipe that `auto` stands for: that of the run to resume, else the one for its initial weights."""
    return kept or ("finetune" if has_weights else "scratch")


def has_initial_weights(pretrained: str, pretrained_dir: Path | None) -> bool:
    """Return True if `--pretrained` and the folder of the `pretrained` channel name weights to start from."""
    return pretrained_dir is not None if pretrained == "auto" else pretrained != "none"


def explain(recipe: str, *, has_weights: bool, kept: str = "") -> str:
    """Return the line of the log that says which recipe `auto` is, and why."""
    why = "weights to start from" if has_weights else "no weights to start from"
    why = "as the run that is resumed" if kept else why
    return f"recipe: {recipe} ({why}); --recipe original, scratch or finetune decides"


def warning_without_weights(recipe: str, freeze: str, freeze_epochs: int, epochs: int, where: str = "") -> str:
    """Return the warning for a run without weights to start from whose options are for some; empty if none is.

    `where` are the options that take weights, unless they are those of train.py. Raises ConfigError if blocks are
    frozen, and so random, for the whole run.
    """
    remedy = f"give {where or '--pretrained FILE or the `pretrained` channel'}, such as what `make weights` fetches"
    if freeze == "all" or (freeze.isdecimal() and int(freeze)):
        if not freeze_epochs or freeze_epochs >= epochs:
            raise ConfigError(
                f"--freeze: {freeze} keeps random weights for the whole run, as there are no weights to start from; "
                f"{remedy}, or leave --freeze out"
            )
        return (
            f"--freeze-epochs: {freeze_epochs} keeps random weights until then, as there are no weights to start from; "
            f"{remedy}, or leave --freeze out"
        )
    if recipe == "finetune":
        return (
            f"--recipe: finetune is for weights to start from, and there are none; {remedy}, or pass --recipe scratch"
        )
    return ""


def describe() -> str:
    """Return the table of recipes for `--help`."""
    lines = ["recipes (--recipe), each option of which can be overridden:"]
    for name, options in RECIPES.items():
        flags = [f"--{option.replace('_', '-')} {_shown(value)}" for option, value in options.items()]
        lines += [f"  {name}", *_wrapped(flags or ["the defaults above"])]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={part}" for name, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _wrapped(flags: list[str], width: int = 76) -> list[str]:
    """Return lines of whole flags, indented."""
    lines = [""]
    for flag in flags:
        if lines[-1] and len(lines[-1]) + len(flag) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {flag}".strip()
    return [f"    {line}" for line in lines]
