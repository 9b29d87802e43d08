"""The answers of a batch transform, NAME.out each, as the output.csv that code/inference.py would have written."""

import json
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.images import is_image_file
from data.tables import SCHEME, Table, read_table
from jobs.aws import Aws, AwsError
from jobs.s3 import fetch
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError

ANSWER = ".out"  # what SageMaker puts behind the name of an image


def join(answers: Iterable[Path], root: Path, info: Path | None) -> Table:
    """The answers of one transform, NAME.out each below `root`, as a table with the columns ImageID and ans.

    With an info.csv: its rows, order and other columns. Without: every answer, sorted by name. An image that has no
    answer, or an error as its answer, has an empty `ans`, as inference.py writes it, and is named on stderr. Raises
    DataError if an answer is none of this image.
    """
    found = {path.relative_to(root).as_posix().removesuffix(ANSWER): path for path in answers}
    found = {name: path for name, path in found.items() if is_image_file(name)}  # an info.csv got an answer too
    if found and all(name.startswith("images/") for name in found):
        found = {name.removeprefix("images/"): path for name, path in found.items()}
    table = read_table(info) if info else Table(("ImageID",), [{"ImageID": name} for name in sorted(found)])
    predictions = {name: _read(found[name])["prediction"] if name in found else None for name in table.names}
    if missing := [name for name, prediction in predictions.items() if prediction is None]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        print(f"{len(missing)} of {len(table.rows)} images have no answer: {names}", file=sys.stderr)
    return table.with_columns({"ans": (predictions[name] for name in table.names)})


def _read(path: Path) -> dict[str, Any]:
    """An answer; raises DataError if it is none of this image."""
    try:
        answer: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(answer["prediction"], int | None):
            raise TypeError(answer["prediction"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not an answer of this image, expected JSON with `prediction` ({error!r}): {path}") from None
    return answer


def find_scheme(aws: Aws, model: str, answers: Iterable[Path], folder: Path) -> LabelScheme | None:
    """What the class numbers of the answers mean, which the model knows; None where they are those of masked faces.

    A model that is gone is said, and None too: evaluation would take the numbers for masked faces.
    """
    if all(_is_masked_face(_read(path)) for path in answers):
        return None
    archive = folder / "model.tar.gz"
    try:
        described = aws.call("sagemaker", "DescribeModel", ModelName=model)
        fetch(aws, described["PrimaryContainer"]["ModelDataUrl"], archive)
        return _scheme_of(archive)
    except (AwsError, DataError) as error:
        print(f"{SCHEME} is missing, without it these classes cannot be evaluated: {error}", file=sys.stderr)
        return None
    finally:
        archive.unlink(missing_ok=True)


def _is_masked_face(answer: dict[str, Any]) -> bool:
    number = answer["prediction"]
    if number is None:
        return True
    return number < MASKED_FACES.num_classes and answer.get("label") in (None, MASKED_FACES.classes[number])


def _scheme_of(archive: Path) -> LabelScheme:
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                if member.name.removeprefix("./") == "model.json" and (file := tar.extractfile(member)):
                    return LabelScheme.from_dict(json.load(file)["scheme"])
    except (tarfile.TarError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"the model does not say what its classes are ({error!r})") from None
    raise DataError("the model holds no model.json")
