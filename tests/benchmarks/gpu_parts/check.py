"""What a part of the GPU check found: rows with a value, a bar and a result, in a JSON file that grows row by row.

The file is complete after every row, so a part that is cut at its limit keeps what it has.
"""

import json
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

Value = float | int | str | bool | None
Item = TypeVar("Item")
BLACK = "GPU_CHECK_BLACK"  # environment variable: images are black, see networks.pixels_of
MET, MISSED, NOTED, SKIPPED, UNJUDGED = "met", "missed", "noted", "skipped", "not judged"


@dataclass(frozen=True)
class Row:
    """One finding: `result` is met, missed, noted (no bar), skipped or not judged (a number on the stand-in)."""

    name: str
    value: Value
    bar: str = ""
    result: str = NOTED
    reason: str = ""


@dataclass
class Check:
    """The findings of one part, and what it may use: a form (tiny, short or long), a device and its time."""

    file: Path
    form: str = "long"
    device: str = "cuda"
    judge_values: bool = True  # False on the stand-in, whose kernels compute nothing
    seconds: float = math.inf  # from now on; what does not fit is skipped
    rows: list[Row] = field(default_factory=list)
    no_gpu: str = ""  # one sentence if no GPU can be used

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + self.seconds
        self._lock = threading.Lock()  # some parts do several things at once
        self._save()

    def at_most(self, name: str, value: float, bar: float) -> None:
        """Judge a computed number; NaN misses every bar."""
        self._judge(name, value, f"at most {bar:.3g}", value <= bar)

    def at_least(self, name: str, value: float, bar: float) -> None:
        """Judge a computed number; NaN misses every bar."""
        self._judge(name, value, f"at least {bar:.3g}", value >= bar)

    def computes(self, name: str, is_right: bool, value: Value = None, bar: str = "yes") -> None:
        """Judge what depends on numbers that the GPU computed."""
        self._judge(name, is_right if value is None else value, bar, is_right)

    def holds(self, name: str, is_right: bool, value: Value = None, bar: str = "yes") -> None:
        """Judge what does not depend on computed numbers; on the stand-in, too."""
        self._add(Row(name, is_right if value is None else value, bar, MET if is_right else MISSED))

    def note(self, name: str, value: Value) -> None:
        """Record a value without a bar."""
        self._add(Row(name, value))

    def skip(self, name: str, reason: str) -> None:
        """Record what was not checked, and why."""
        self._add(Row(name, None, result=SKIPPED, reason=reason))

    def while_time(self, items: Iterable[Item], seconds: float, what: str = "") -> Iterator[Item]:
        """Yield the items while there are `seconds` left for one more; the others are skipped by name."""
        for item in items:
            if self.seconds_left < seconds:
                self.skip(f"{what} {item}".strip(), f"{max(0, round(self.seconds_left))} s left, {seconds:g} s needed")
            else:
                yield item

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()

    def _judge(self, name: str, value: Value, bar: str, is_right: bool) -> None:
        result = UNJUDGED if not self.judge_values else MET if is_right else MISSED
        self._add(Row(name, value, bar, result))

    def _add(self, row: Row) -> None:
        value = f"{row.value:.4g}" if isinstance(row.value, float) else row.value
        print(f"{row.result}: {row.name}: {value} {f'({row.bar})' if row.bar else row.reason}".rstrip(), flush=True)
        with self._lock:
            self.rows.append(row)
            self._save()

    def _save(self) -> None:
        """Write all rows, in place of the earlier ones, so that the file is complete at any moment."""
        record = {"no_gpu": self.no_gpu, "rows": [asdict(row) for row in self.rows]}
        temporary = self.file.with_suffix(".part")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.replace(self.file)

    def without_gpu(self, sentence: str) -> None:
        """Record that no GPU can be used."""
        self.no_gpu = sentence
        self._save()
