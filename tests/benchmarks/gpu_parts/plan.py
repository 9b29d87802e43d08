"""The parts of the GPU check in their order, cheap and fatal first, speed last; each with its limit. No torch.

`short` and `long` are seconds at most, the start of Python and torch included. The parts of a group together take at
most what GROUPS says; a part that is not in the short form has 0 there.
"""

import difflib
from dataclasses import dataclass

TINY_SECONDS = 300  # limit of each part in the form of the tests, on a machine with other work


@dataclass(frozen=True)
class Part:
    """A part: `module` in this folder has a function `run(check)`; `needs` are modules that must be installed."""

    name: str
    about: str
    group: str
    short: int
    long: int
    needs: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    def limit(self, form: str) -> int:
        """Return the most seconds in a form: tiny, short or long."""
        return {"tiny": TINY_SECONDS, "short": self.short, "long": self.long}[form]


GROUPS = {"right": 240, "fast": 240, "all": 1500}  # seconds
_TRAIN = ("torchvision", "pandas", "safetensors", "tqdm", "tensorboard", "matplotlib")
_BENCH = ("torchvision", "pandas", "safetensors", "tqdm")
PARTS = (
    Part("environment", "driver, versions, one convolution", "every", 25, 60, ("torch", "numpy", "PIL")),
    Part("gpu-tests", "the tests marked gpu", "right", 42, 120, ("pytest", "hypothesis", "pandas", "safetensors")),
    Part("compare", "CPU against GPU: augmentation, loss, gradient, predictions", "right", 30, 120, ("torchvision",)),
    Part("optimizer", "fused SGD with an overflow in fp16, against plain SGD", "right", 12, 30),
    Part("bits", "networks x precisions: two fresh processes, the same bits", "right", 40, 290, ("torchvision",)),
    Part("resume", "train.py cold, warm, and killed and resumed: the same bits", "right", 38, 120, _TRAIN),
    Part("memory", "out of memory: batches are split, cold and warm alike", "right", 50, 150, _TRAIN),
    Part("workers", "two workers on the GPU against one: the same bits; what parts cost", "right", 0, 70, _TRAIN),
    Part("speed", "later epochs against a resident batch, and how busy the GPU is", "fast", 110, 330, _BENCH),
    Part("first-epoch", "first epoch against a DataLoader with 14 workers", "fast", 45, 90, _BENCH),
    Part("serving", "the server: first requests, 32 clients, alone and in company", "fast", 55, 120,
         ("torchvision", "safetensors", "starlette", "uvicorn", "httptools")),
)  # fmt: skip


class UnknownPartError(Exception):
    """A name that is neither a part nor a group."""


def chosen(names: list[str]) -> tuple[list[Part], str, int]:
    """Return the parts that names ask for, their form, and the most seconds in all; the environment is always first.

    A group (right, fast) is short, `all` and parts by their own name are long. Raises UnknownPartError.
    """
    known = [*GROUPS, *(part.name for part in PARTS)]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            listed = ", ".join([*nearest, *(other for other in known if other not in nearest)])
            raise UnknownPartError(f"there is no part {name!r} of the GPU check; choose from {listed}")
    asked = {part.name for part in PARTS if {part.name, part.group, "all"} & {*names} or part.group == "every"}
    form = "short" if {*names} <= {"right", "fast"} else "long"
    parts = [part for part in PARTS if part.name in asked and part.limit(form)]
    limits = [GROUPS.get(name, 0) for name in names]
    single = sum(part.long for part in PARTS if part.name in names)
    return parts, form, sum(limits) + single + (PARTS[0].long if single and not any(limits) else 0)
