"""Blocks of a network that are not trained: all or some before the head, for some epochs or for the whole run.

    freezing = Freezing(model, "all", epochs=3)
    freezing.enter(epoch)    # before each step; True when the frozen blocks have changed
    model.train()
    freezing.keep_norms()    # after it

The weights of a frozen block have no gradients, so no optimizer changes them, nor decays them. Nothing that the images
pass before the first trained block is kept for a backward pass. The batch norm of a frozen block is in evaluation mode,
so its running statistics stay as they are. Which blocks are frozen depends on the epoch alone, and an optimizer holds
the weights of all blocks from the start, so a run that is resumed at any step freezes and thaws like any other.
"""

from torch import nn

from runtime.errors import ConfigError
from training.depth import block_names, depths

_NOTHING: frozenset[str] = frozenset()


class Freezing:
    """The frozen blocks of a network, and when they thaw."""

    def __init__(self, model: nn.Module, blocks: str = "none", epochs: int = 0, name: str = "the network") -> None:
        """Freeze the first `blocks` of a network, `all` of them or `none`, for `epochs`, or 0 for the whole run.

        `all` are those before the head, which is always trained. Raises ConfigError for more blocks than there are.
        """
        self._model, self.epochs = model, epochs
        self.names = _NOTHING  # of the parameters and buffers that are frozen now
        self._norms: list[nn.Module] = []
        self._chosen, self._text = _NOTHING, ""
        if blocks in ("none", "0"):
            return
        found = depths(model)
        head = max(found.values())
        count = head if blocks == "all" else int(blocks)
        if count > head:
            raise ConfigError(
                f"--freeze: {count} is more than the {head} blocks of {name!r} before its head; pass at most {head}, "
                "or all"
            )
        self._chosen = frozenset(key for key, depth in found.items() if depth < count)
        starts = block_names(found)
        self._text = f"the first {count} of {head + 1} blocks, before {starts[count]}"

    def enter(self, epoch: int) -> bool:
        """Freeze or thaw what an epoch, counted from 0, wants; return True if that changed anything."""
        wanted = self._chosen if not self.epochs or epoch < self.epochs else _NOTHING
        if wanted == self.names:
            return False
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name not in wanted)
            if name in wanted:
                parameter.grad = None
        self.names = wanted
        self._norms = [module for name, module in self._model.named_modules() if self._is_frozen_norm(name, module)]
        return True

    def _is_frozen_norm(self, name: str, module: nn.Module) -> bool:
        """Return True for a module with running statistics, if they are frozen."""
        return any(f"{name}.{buffer}" in self.names for buffer, _ in module.named_buffers(recurse=False))

    def keep_norms(self) -> None:
        """Put the frozen batch norm into evaluation mode again, after `model.train()`."""
        for norm in self._norms:
            norm.eval()

    def __str__(self) -> str:
        """Return what is frozen, as a part of a line of the log; empty if nothing is."""
        if not self._chosen:
            return ""
        weights = sum(tensor.numel() for name, tensor in self._model.named_parameters() if name in self._chosen)
        total = sum(tensor.numel() for tensor in self._model.parameters())
        until = f"until epoch {self.epochs + 1}" if self.epochs else "for the whole run"
        return f"{self._text}: {weights:,} of {total:,} weights, {until}"
