"""What is known of images that other processes decode: which are done, which are bad, their digests. No torch."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.decode_board import BAD, Board
from data.digests import DigestArray
from runtime.errors import ImageError

Indices = NDArray[np.int64]

NOTICE_SECONDS = 0.05  # between two looks at all images while somebody waits


class DecodeProgress:
    """The state of each image, as far as this process has noticed it on the board."""

    def __init__(
        self,
        board: Board,
        paths: Sequence[Path],
        on_decoded: Callable[[Indices, DigestArray], None] | None = None,
    ) -> None:
        """`on_decoded` gets the indices of images and the digests (images, 32) of their files, as they are noticed."""
        self.board, self.paths = board, paths
        self.bad: dict[int, ImageError] = {}  # by index, as `notice` found them so far; these images are black
        self.undecoded = len(paths)
        self._noticed_at = -float("inf")  # on the monotonic clock
        self._seen = np.zeros(len(paths), np.uint8)  # the states of the images, as far as `bad` includes them
        self._on_decoded = on_decoded
        self._noticing = threading.Lock()

    def are_done(self, indices: Indices | None) -> bool:
        """Return True if the images at these indices, or all, are decoded."""
        return not self.undecoded or (indices is not None and bool(self.board.states[indices].all()))

    def is_complete(self) -> bool:
        """Look at all images, and return True if they are decoded."""
        self.notice()
        return not self.undecoded

    def is_due(self, indices: Indices | None) -> bool:
        """Return True if it is time to look at all images: these are done, or the last look is long ago."""
        return self.are_done(indices) or time.monotonic() >= self._noticed_at + NOTICE_SECONDS

    def notice(self) -> None:
        """Add the images that were decoded since the last call to what is known here."""
        with self._noticing:
            if not self.undecoded:
                return
            states = self.board.states.copy()  # other processes write while numpy reads
            new = np.flatnonzero(states != self._seen)
            for index in new[states[new] == BAD].tolist():
                code, reason = self.board.reasons.read(index)
                self.bad[index] = ImageError(f"{reason}: {self.paths[index]}", code)
            self._noticed_at = time.monotonic()
            self._seen = states
            self.undecoded -= len(new)
            if self._on_decoded and len(new):
                self._on_decoded(new, self.board.digests[new])
