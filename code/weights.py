"""Fetch the published weights of a model, once, into the cache of this machine.

    python code/weights.py --model resnet18

In: the network, and what torchvision and timm know about their weights. Out: a folder in the cache with the file and
its notes (source, licence, sha256, mean and std). `make train` and `submit.py train` hand it on as the `pretrained`
channel of that model: a job itself has no network.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from options.weights import WeightsConfig, WeightsPaths
from runtime.arguments import parse
from runtime.failure import guard

if __name__ == "__main__":  # answer --help and a mistyped flag before torch is imported
    guard(lambda: parse("weights.py", sys.argv[1:], os.environ, WeightsPaths, WeightsConfig))

from initial_weights import fetch_weights
from model import is_model, known_models
from runtime.errors import ConfigError, unknown_name
from weights_cache import cache_dir, find_file, read_notes


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: fetch the weights unless they are cached, and print what they are and where."""
    paths, config = parse("weights.py", argv, environ, WeightsPaths, WeightsConfig)
    if not is_model(config.model):
        raise ConfigError(unknown_name("model", config.model, known_models()))
    folder, is_new = fetch_weights(config.model, paths.cache_dir or cache_dir(environ), config.mirror)
    path = find_file(folder)
    assert path, "fetched weights have notes"
    notes = read_notes(path)
    assert notes, "find_file has looked"
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    print(f"weights of {config.model}: {f'fetched, {size}' if is_new else f'in the cache already, {size}'}")
    print(f"source: {notes.source}")
    print(f"licence: {notes.licence}")
    print(f"sha256: {notes.sha256}")
    print(f"folder: {folder}", flush=True)


if __name__ == "__main__":
    guard(lambda: main(sys.argv[1:], os.environ))
