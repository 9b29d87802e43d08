"""Predictions of the workers of a run, which take turns with the batches of one epoch: batch i is worker i % W's."""

from torch import Tensor

from data.loader import Loader
from predictor import Predictor
from runtime.process import Stopped
from training.workers import Workers


def predict_in_turns(predictor: Predictor, loader: Loader, epoch: int, workers: Workers) -> list[Tensor]:
    """Return the logits (batch, classes) of all batches, in order, on every worker.

    Each image is predicted once, and batches are cut as with one worker. If one worker has no memory for a batch, all
    start over with smaller micro-batches. Raises Stopped between two batches if a stop is requested.
    """
    micro_batches = predictor.micro_batches
    while True:
        count = micro_batches.count
        own: list[Tensor] = []
        batches = loader.epoch(epoch, turn=(workers.rank, workers.size))
        for _ in range(-(-len(loader) // workers.size)):
            micro_batches.count = workers.agree(micro_batches.count)
            if workers.must_stop:
                batches.close()
                raise Stopped
            if micro_batches.count > count:
                break
            if (batch := next(batches, None)) is not None:
                own.append(predictor.logits(batch.pixels))
        else:
            next(batches, None)  # at the end the loader waits for all images
        batches.close()
        micro_batches.count = workers.agree(micro_batches.count)
        if micro_batches.count == count:
            return _in_order(own, loader, workers)


def _in_order(own: list[Tensor], loader: Loader, workers: Workers) -> list[Tensor]:
    """Return the logits of all batches; each worker has those of its own."""
    if workers.size == 1:
        return own
    sizes = loader.batch_sizes
    turns = [sizes[rank :: workers.size] for rank in range(workers.size)]
    gathered = workers.gather_rows(own, [sum(turn) for turn in turns])
    cut = [part.split(turn) for part, turn in zip(gathered, turns, strict=True)]  # type: ignore[no-untyped-call]
    return [cut[index % workers.size][index // workers.size] for index in range(len(sizes))]
