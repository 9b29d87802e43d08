"""A label table of a million rows with groups is read and split in 15 s and 2 GB.

    python tests/benchmarks/bench_table.py --rows 1000000 --format parquet

The images are empty files in folders of 1,000: no image is opened before the split. The seconds are those of this
process alone, after the files are written; the memory is its peak.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

from data.readers import LAYOUTS, find_dataset
from data.split import split_samples

MOST_SECONDS, MOST_BYTES = 15.0, 2 << 30


def write(root: Path, rows: int, kind: str) -> None:
    """Create empty images and the table as csv or parquet: 100 classes, groups of about seven images."""
    columns: dict[str, list[str]] = {"path": [], "label": [], "group": []}
    for row in range(rows):
        if row % 1000 == 0:
            folder = root / f"{row // 1000:04}"
            folder.mkdir()
        (folder / f"{row:07}.jpg").touch()
        cells = f"{folder.name}/{row:07}.jpg", f"class {row * row % 101 % 100}", str(row * 7919 % (rows // 7 + 1))
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    frame = pd.DataFrame(columns)
    if kind == "parquet":
        frame.to_parquet(root / "labels.parquet")
    else:
        frame.to_csv(root / "labels.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    args = parser.parse_args()
    rows = args.rows
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(root, rows, args.format))
        writer.start()  # a process of its own: its memory is not that of reading
        writer.join()
        started, cpu_started = time.perf_counter(), time.process_time()
        samples = LAYOUTS[find_dataset("auto", root)].read(root, "--data")
        read = time.perf_counter()
        share = (split_samples(samples, 0.2, 42) == "val").mean()
        ended, cpu = time.perf_counter(), time.process_time() - cpu_started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert len(samples.table) == rows
    assert abs(share - 0.2) < 0.001
    reached = "+" if ended - started <= MOST_SECONDS and peak <= MOST_BYTES else "-"
    print(
        f"{reached} {rows:,} rows of {args.format}: read {read - started:.1f} s, split {ended - read:.1f} s, together "
        f"{ended - started:.1f} s of {MOST_SECONDS:g} ({cpu:.1f} s of CPU); "
        f"{peak / 2**30:.2f} GiB of {MOST_BYTES / 2**30:g}"
    )
    sys.exit(reached == "-")


if __name__ == "__main__":
    main()
