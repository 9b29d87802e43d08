"""From a network to the bytes of a model.onnx, with the exporter of torch that is based on torch.export."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from engines.onnx_metadata import IMAGES, PROBABILITIES
from runtime.errors import ModelError, reason_of

MAX_BYTES = 2**31 - 1  # of a protocol buffer, which a model.onnx is


def to_onnx(network: nn.Module, size: tuple[int, int], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a model.onnx for images of `size` (height, width), any number of them at once.

    `network` maps images (batch, height, width, 3) uint8 to probabilities (batch, classes). Raises ModelError if torch
    cannot export it, or if it is too large for one file.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if sum(tensor.nbytes for tensor in tensors) > MAX_BYTES:
        raise ModelError(f"the network is larger than the {MAX_BYTES} bytes that one ONNX file can hold")
    example = torch.zeros((2, *size, 3), dtype=torch.uint8)  # of two: torch takes a batch of one for a constant
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[IMAGES],
                output_names=[PROBABILITIES],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        assert program is not None
        program.model.metadata_props.update(metadata)
        exported: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # torch.export raises many types
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ModelError(f"torch cannot export this network to ONNX ({reason})") from error
    return exported


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says about its progress and its own code from the log."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
