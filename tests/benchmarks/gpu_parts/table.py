"""The results of the GPU check as Markdown: the machine, a line for each part, and a row for each finding."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HEAD = ("card", "driver", "torch", "cuDNN", "Python", "CPUs")  # notes of the part `environment`


def markdown(record: Mapping[str, Any]) -> str:
    """Return the whole table of a record of gpu_check.py."""
    parts: Sequence[Mapping[str, Any]] = record["parts"]
    lines = ["# GPU check", "", f"Command: `{record['command']}`", ""]
    if not record["judges_values"]:
        lines += ["No number was judged (`--no-values`), so this shows nothing about results or speed.", ""]
    machine = {row["name"]: row["value"] for part in parts for row in part["rows"] if part["name"] == "environment"}
    lines += _table(("machine", ""), [(name, machine[name]) for name in HEAD if name in machine])
    summary = [(part["name"], part["result"], f"{part['seconds']:.0f}", part["reason"]) for part in parts]
    lines += _table(("part", "result", "seconds", "why"), summary)
    for part in parts:
        if part["rows"] and part["name"] != "environment":
            rows = [(row["name"], _shown(row["value"]), row["bar"], row["result"]) for row in part["rows"]]
            lines += [f"## {part['name']}: {part['about']}", "", *_table(("what", "value", "bar", "result"), rows)]
    skipped = [(part["name"], row["name"], row["reason"]) for part in parts for row in part["rows"] if row["reason"]]
    if skipped:
        lines += ["## Skipped", "", *_table(("part", "what", "why"), skipped)]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in cells] + [""]


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
