"""What bench_train.py found, as the Markdown tables of README.md."""

from collections.abc import Mapping, Sequence

import torch

from benchmarks.legs import Rate

TRAINING = (
    "images/s, times the usual pipeline",
    "first epoch",
    "second job, first epoch",
    "later epochs",
    "later epochs / ceiling",
)
WORKERS = "ratio of images/s (in brackets: per second of CPU)"


def short_name(dtype: torch.dtype) -> str:
    """Return fp32, bf16 or fp16."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def ratio(rates: Mapping[str, Rate], above: str, below: str) -> str:
    """Return the ratio of two legs on the clock, with about two digits, or "" if a leg is missing."""
    if above not in rates or below not in rates:
        return ""
    found = rates[above].wall / rates[below].wall
    return f"{found:.2f}" if found < 1.1 else f"{found:.1f}" if found < 10 else f"{found:.0f}"


def ratio_with_cpu(rates: Mapping[str, Rate], above: str, below: str) -> str:
    """Return the ratio of two legs on the clock and, in brackets, per second of CPU."""
    return f"{rates[above].wall / rates[below].wall:.2f} ({rates[above].cpu / rates[below].cpu:.2f})"


def training_row(name: str, rates: Mapping[str, Rate], prefix: str = "") -> str:
    """Return the row of a loader or a network; its legs are called as in bench_train.legs_of."""
    original = f"{prefix}original"
    cells = [ratio(rates, f"{prefix}{leg}", original) for leg in ("cold", "warm", "later")]
    return _line([name, *cells, ratio(rates, f"{prefix}later", f"{prefix}ceiling")])


def inference_row(name: str, rates: Mapping[str, Rate]) -> str:
    """Return the row of batch inference, which has one epoch only."""
    return _line([name, ratio(rates, "ours", "original"), "", "", ""])


def training_table(rows: Sequence[str]) -> str:
    """Return the table of `training_row`s and `inference_row`s."""
    return "\n".join([_line(TRAINING), _line(["---"] * len(TRAINING)), *rows])


def worker_table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of several networks, each a mapping from ratios to cells."""
    names = [*dict.fromkeys(name for cells in columns.values() for name in cells)]
    rows = [_line([name, *(cells.get(name, "") for cells in columns.values())]) for name in names]
    return "\n".join([_line([WORKERS, *columns]), _line(["---"] * (1 + len(columns))), *rows])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")
