"""The server with each engine, the usual handler and LitServe, in one run.

    python tests/benchmarks/bench_serve.py --clients 32 --rounds 3
    python tests/benchmarks/bench_serve.py --rows torch openvino
    python tests/benchmarks/bench_serve.py --bars      decoding in processes and in threads, see serve_bars.py

serve_rows.py has the rows. LitServe takes part where it is installed, or where PYTHONPATH finds it. The ceiling of an
engine is decoding and model in one process without HTTP, the same threads, the best batch size and order.

Every row runs the same weights on the same images, one JPEG for each request. The rows take turns, in every second
round in reverse, and only the ratios mean something: the load generator shares the CPUs. The output is Markdown.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

import torch

from benchmarks.serve_load import drawn_images
from benchmarks.serve_rows import ROWS, Found, available_rows, run_row
from benchmarks.serve_table import bar_table, read_cpu_features, table
from data.images import Preparation
from description import Description
from exporting.onnx_export import export
from labels import MASKED_FACES
from model_files import publish
from runtime.process import cpu_count


def compare(options: argparse.Namespace) -> None:
    """Run all rows in turn and print the tables."""
    found: dict[str, list[Found]] = {name: [] for name in options.rows or available_rows()}
    with tempfile.TemporaryDirectory() as folder:
        model_dir = Path(folder) / "model"
        description = Description(options.model, "joint", MASKED_FACES, Preparation((128, 96)))
        torch.manual_seed(0)
        publish(model_dir, description.build().state_dict(), description)
        export(model_dir, Path(folder) / "golden")
        for number in range(options.rounds):
            for name in [*found][:: -1 if number % 2 else 1]:
                found[name].append(run_row(ROWS[name], model_dir, options.clients, options.seconds))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    size = sum(map(len, drawn_images())) / 16_000
    print(
        f"{options.model}, 128 x 96, JPEGs of {size:.0f} kB, {options.clients} clients; {cpu_count()} CPUs,"
        f" {read_cpu_features()}; torch {torch.__version__}; {options.rounds} rounds, medians;"
        f" load average {os.getloadavg()[0]:.1f}"
    )
    print(f"\n{table(found)}\n\n{bar_table(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="network to serve")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="rows to compare; default: all that are installed")
    parser.add_argument("--clients", type=int, default=32, help="clients at the same time")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all rows")
    parser.add_argument("--seconds", type=float, default=4, help="seconds of one measurement")
    parser.add_argument("--bars", action="store_true", help="compare decoding in processes and in threads instead")
    parser.add_argument("--before", type=Path, help="checkout of the server to compare with")
    options = parser.parse_args()
    if options.bars:
        from benchmarks.serve_bars import compare_ways

        compare_ways(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
