"""The stage at which another implementation differs, from its probabilities for the files of a golden pack. No torch.

Each file enters at its stage: those in normalised/ see the network alone, those in prepared/ the normalisation, too,
and so on. So the stage that differs is the one of the first folder, from the network on, whose probabilities differ.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporting.pack import STAGES, Mistake, Rows, read_pack, read_rows
from runtime.errors import DataError


@dataclass(frozen=True)
class Compared:
    """The files of one folder of the pack: how many there are, and by how much each that differs does."""

    folder: str
    count: int  # 0: the predictions have none of them
    largest: float
    differences: Mapping[str, float]

    @property
    def stage(self) -> str:
        return STAGES[self.folder]

    def __str__(self) -> str:
        if not self.count:
            return f"stage={self.stage}; files={self.folder}/; not given"
        return (
            f"stage={self.stage}; files={self.folder}/; differing={len(self.differences)} of {self.count}; "
            f"largest_difference={self.largest:.1e}"
        )


def verify(pack: Path, predictions: Path, tolerance: float) -> list[Compared]:
    """Compare predictions with a golden pack, folder by folder; raises DataError that names the stage that differs.

    `tolerance` is the largest difference of a probability. Also raises DataError for tables that cannot be used.
    """
    expected, mistakes, classes = read_pack(pack)
    theirs = read_rows(predictions, classes)
    if unknown := [name for name in theirs if name not in expected]:
        raise DataError(
            f"{unknown[0]!r} is no file of the golden pack, such as {next(iter(expected))!r}: {predictions}"
        )
    compared = [_compare(folder, expected, theirs, tolerance, predictions) for folder in STAGES]
    if not any(each.count for each in compared):
        raise DataError(f"no row for any file of the golden pack: {predictions}")
    for each in compared:
        print(each, flush=True)
    if differing := _nearest_to_the_network(compared):
        raise DataError(_explain(differing, compared, theirs, mistakes, tolerance))
    return compared


def _compare(folder: str, expected: Rows, theirs: Rows, tolerance: float, where: Path) -> Compared:
    names = [name for name in expected if name.startswith(f"{folder}/")]
    given = [name for name in names if name in theirs]
    if given and len(given) < len(names):
        missing = next(name for name in names if name not in theirs)
        raise DataError(f"{len(given)} of {len(names)} files of {folder}/ have a row, {missing!r} has none: {where}")
    found = {name: _distance(theirs[name], expected[name]) for name in given}
    differences = {name: difference for name, difference in found.items() if difference > tolerance}
    return Compared(folder, len(given), max(found.values(), default=0.0), differences)


def _distance(theirs: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference of two rows (classes,); NaN is infinitely far from any probability."""
    return float(np.nan_to_num(np.abs(theirs - expected), nan=np.inf).max())


def _nearest_to_the_network(compared: Sequence[Compared]) -> Compared | None:
    """Return the folder that differs although as few stages as possible are between its files and the probabilities."""
    return next((each for each in reversed(compared) if each.differences), None)


def _explain(
    differing: Compared, compared: Sequence[Compared], theirs: Rows, mistakes: Sequence[Mistake], tolerance: float
) -> str:
    """Return the sentence that names the stage, and the mistake that gives the same numbers."""
    later = compared[compared.index(differing) + 1 :]
    suspects = [differing.stage]  # and those stages after it that nothing shows to be right
    for each in later:
        if each.count:
            break
        suspects.append(each.stage)
    found = _recognise(differing, theirs, [each for each in mistakes if each.stage in suspects], tolerance)
    stages = found[0].stage if found else " or ".join(suspects)
    sentence = (
        f"the predictions differ at the stage {stages}: {len(differing.differences)} of {differing.count} files in "
        f"{differing.folder}/ by up to {differing.largest:.1e} (at most {tolerance:.0e} is allowed)"
    )
    if found:
        return f"{sentence}, as if {'; '.join(each.name for each in found)}"
    if len(suspects) > 1:
        folders = " and ".join(f"{each.folder}/" for each in later[: len(suspects) - 1])
        return f"{sentence}; add rows for {folders} to tell which"
    return f"{sentence}, most of all in {max(differing.differences, key=lambda name: differing.differences[name])}"


def _recognise(differing: Compared, theirs: Rows, mistakes: Sequence[Mistake], tolerance: float) -> list[Mistake]:
    """Return the mistakes that give the same numbers, for as many of the files that differ as one of them explains.

    Decoding can have several mistakes, each in an image of its own. Any other stage has one.
    """
    explained: Counter[int] = Counter()
    for place, mistake in enumerate(mistakes):
        for name in differing.differences:
            if name in mistake.rows and np.abs(theirs[name] - mistake.rows[name]).max() <= tolerance:
                explained[place] += 1
    if differing.stage == "decode":
        return [mistakes[place] for place in sorted(explained)]
    return [mistakes[place] for place, count in explained.most_common(1) if 2 * count > len(differing.differences)]
