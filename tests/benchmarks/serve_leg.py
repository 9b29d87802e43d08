"""A server of a checkout, with its decoding or its model replaced: the legs of serve_bars.py.

python tests/benchmarks/serve_leg.py CHECKOUT WAY MODEL    WAY: threads, or anything else; MODEL: sleeping, or another
"""

import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT, WAY, MODEL = Path(sys.argv[1]), *sys.argv[2:4]
    sys.path[1:1] = [str(ROOT / "code"), str(ROOT / "container")]

import numpy as np

MODEL_SECONDS = 0.004


def sleep(self: Any, pixels: Any) -> Any:
    """Take as long for a batch as a small network on a GPU, without CPU time."""
    time.sleep(MODEL_SECONDS)
    return np.full((len(pixels), self.scheme.num_classes), 1 / self.scheme.num_classes, np.float32)


def main() -> None:
    """Run the server with the settings of the environment."""
    from server import app
    from server.classifier import Classifier

    if WAY == "threads":
        sys.path.append(str(Path(__file__).resolve().parents[1]))
        from benchmarks.thread_slots import ThreadSlots
        from data import template_process

        def start(config: Any, classifier: Any) -> Any:
            return ThreadSlots(classifier.preparation, classifier.cpus, 2 * config.max_waiting)

        app._start_decoding = start
        template_process.start_early = lambda script=Path(): None
    if MODEL == "sleeping":
        Classifier.__call__ = sleep  # type: ignore[method-assign]
    import serve
    from runtime.failure import run

    sys.argv[1:] = []
    run(serve.main)


if __name__ == "__main__":
    main()
