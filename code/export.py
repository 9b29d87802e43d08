"""Export a trained model to ONNX, and check programs in other languages that run it.

    SM_MODEL_DIR=model SM_GOLDEN_DIR=golden python code/export.py
    python code/export.py --verify golden --predictions theirs.csv

In: a model folder. Out: model.onnx beside model.json, and the golden pack: ten images with their pixels and
probabilities at each stage. model.onnx maps prepared uint8 images (batch, height, width, 3) to probabilities; it is
written only if onnxruntime and torch agree on them. `--verify` compares the predictions of another program with a
golden pack and names the stage at which they differ.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from options.export import ExportConfig, ExportPaths
from runtime.arguments import parse
from runtime.failure import guard, write_message
from runtime.process import limit_openmp_spinning, name_unknown_user


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: read options and SM_* variables, export or verify, print what came of it."""
    paths, config = parse("export.py", argv, environ, ExportPaths, ExportConfig)
    if config.verify is not None and config.predictions is not None:
        from exporting.verify import verify  # each needs packages of its own, and to verify needs no torch

        files = sum(each.count for each in verify(config.verify, config.predictions, config.tolerance))
        summary = f"verified: {config.predictions}; files={files}"
    else:
        name_unknown_user()
        limit_openmp_spinning()
        from exporting.onnx_export import export

        summary = export(paths.model_dir, paths.golden_dir, config.tta)
    print(summary, flush=True)
    write_message(summary)


if __name__ == "__main__":
    guard(lambda: main(sys.argv[1:], os.environ))
