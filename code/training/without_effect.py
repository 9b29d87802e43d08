"""Options that were given and change nothing, because of another one. Each is a warning, so none is ignored in silence.

They are no errors: a search over optimizers passes one momentum to all of them.
"""

from config import TrainConfig
from recipes import RECIPES
from runtime.arguments import flag_of
from runtime.conversion import show

WITH_MOMENTUM = ("RMSprop", "SGD")
WITHOUT_WEIGHT_DECAY = ("Rprop",)


def describe_without_effect(args: TrainConfig, *, has_split: bool = False) -> list[str]:
    """Return a sentence for each option that differs from its recipe and has no effect; `has_split` is of the data."""
    usual = TrainConfig(**RECIPES.get(args.recipe, {}))
    reasons = {
        "val_ratio": (has_split or args.fold is not None, f"--fold {args.fold}" if args.fold else "a given split"),
        "max_bad_ratio": (args.on_bad_image == "error", "--on-bad-image error"),
        "cutmix_shape": (not args.cutmix, "--cutmix 0"),
        "momentum": (args.optimizer not in WITH_MOMENTUM, f"--optimizer {args.optimizer}"),
        "weight_decay": (args.optimizer in WITHOUT_WEIGHT_DECAY, f"--optimizer {args.optimizer}"),
        "lr_decay_step": (args.schedule != "step", f"--schedule {args.schedule}"),
    }
    return [
        f"{flag_of(name)}: {show(getattr(args, name))} has no effect with {reason}; leave it out"
        for name, (is_ignored, reason) in reasons.items()
        if is_ignored and getattr(args, name) != getattr(usual, name)
    ]
