"""What bench_serve.py found, as Markdown: a table of the servers, and one of the bars."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve_rows import ROWS, Found, median_of

Rounds = Mapping[str, Sequence[Found]]
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # what decides about speed


@dataclass(frozen=True)
class Bar:
    """A bound on the number of one row, divided by that of another if there is one, in the median over the rounds."""

    text: str
    above: str
    below: str
    number: Callable[[Found], float]
    bound: float
    is_most: bool = False

    def found(self, rounds: Rounds) -> float:
        """Return the median over the rounds: rows of the same round had the same neighbours."""
        above = [self.number(each) for each in rounds[self.above]]
        below = [self.number(each) for each in rounds[self.below]] if self.below else [1.0] * len(above)
        return statistics.median(one / other for one, other in zip(above, below, strict=True))

    def line(self, rounds: Rounds) -> str:
        value = self.found(rounds)
        reached = value <= self.bound if self.is_most else value >= self.bound
        bound = f"at {'most' if self.is_most else 'least'} {self.bound:g}"
        return f"| {self.text} | {value:.2f} | {bound} | {'yes' if reached else 'no'} |"


def bars() -> list[Bar]:
    """Return the bars of the lite image's engine: OpenVINO against torch in the same server and number format."""
    found = []
    for kind, suffix, speed, alone in (("fp32", "", 1.15, 0.8), ("bf16", "16", 1.3, 0.65)):
        ours, torch = f"openvino{suffix}", f"torch{suffix}"
        found += [
            Bar(f"{kind}: requests/s", ours, torch, lambda each: each.crowd.per_second, speed),
            Bar(f"{kind}: p99", ours, torch, lambda each: each.crowd.p99, 1.0, is_most=True),
            Bar(f"{kind}: one client alone, p50", ours, torch, lambda each: each.alone.median, alone, is_most=True),
        ]
    start = Bar("fp32: start to first response, seconds", "openvino", "", lambda each: each.start, 2.0, is_most=True)
    return [*found, start]


def cpu_features(info: str) -> str:
    """Return the model of the CPU and those of its features that decide about speed, from /proc/cpuinfo."""
    rows = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in rows.items()}
    flags = (named.get("flags") or named.get("Features") or "").split()
    return f"{named.get('model name', 'unknown CPU')}: {', '.join(flag for flag in FLAGS if flag in flags) or 'none'}"


def table(rounds: Rounds) -> str:
    """Return the table of the servers: medians, and requests/s divided by those of the usual handler."""
    columns = ["requests/s", "p50", "p99", "one client alone, p50", "start to first response", "CPU for a request"]
    columns.append("of ceiling")
    lines = [f"| | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    for name, each in rounds.items():
        found = median_of(list(each))
        ratio = Bar("", name, "plain", lambda one: one.crowd.per_second, 0).found(rounds) if "plain" in rounds else 1
        cells = [
            ROWS[name].name,
            f"{found.crowd.per_second:.0f}" + (f" ({ratio:.1f} x)" if name != "plain" and "plain" in rounds else ""),
            f"{1000 * found.crowd.median:.0f} ms",
            f"{1000 * found.crowd.p99:.0f} ms",
            f"{1000 * found.alone.median:.1f} ms",
            f"{found.start:.1f} s",
            f"{1000 * found.cpu:.1f} ms",
            f"{found.crowd.per_second / found.ceiling:.2f}" if found.ceiling else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bar_table(rounds: Rounds) -> str:
    """Return the table of the bars whose rows were measured."""
    lines = ["| OpenVINO / torch, both in this server | found | bar | reached |", "| --- | --- | --- | --- |"]
    for bar in bars():
        if bar.above in rounds and (not bar.below or bar.below in rounds):
            lines.append(bar.line(rounds))
    return "\n".join(lines)


def read_cpu_features() -> str:
    """Return `cpu_features` of this machine."""
    return cpu_features(Path("/proc/cpuinfo").read_text())
