"""The answers of a batch transform, NAME.out each, as the output.csv that code/inference.py would have written."""

import csv
import json
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from answers import SCHEME
from aws import Aws, AwsError
from environment import replacing
from errors import DataError
from images import is_image_file
from labels import MASKED_FACES, LabelScheme
from s3_files import fetch

ANSWER = ".out"  # what SageMaker puts behind the name of a picture


def write_output(answers: Iterable[Path], root: Path, info: Path | None, output: Path) -> Path:
    """Join the answers of one transform, NAME.out each below `root`, to output.csv: ImageID,ans; returns its path.

    With an info.csv: its rows, order and other columns. Without: every answer, sorted by name. A picture that has no
    answer, or an error as its answer, has an empty `ans`, as inference.py writes it, and is named on stderr.
    """
    found = {path.relative_to(root).as_posix().removesuffix(ANSWER): path for path in answers}
    found = {name: path for name, path in found.items() if is_image_file(name)}  # an info.csv got an answer too
    if found and all(name.startswith("images/") for name in found):
        found = {name.removeprefix("images/"): path for name, path in found.items()}
    if info is None:
        rows, columns = [{"ImageID": name} for name in sorted(found)], ["ImageID"]
    else:
        rows, columns = _read_info(info)
    predictions = {row["ImageID"]: _prediction(found.get(row["ImageID"])) for row in rows}
    with replacing(output) as file:
        columns += [] if "ans" in columns else ["ans"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"ans": predictions[row["ImageID"]]} for row in rows)
    if missing := [name for name, prediction in predictions.items() if not prediction]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        print(f"{len(missing)} of {len(rows)} pictures have no answer: {names}", file=sys.stderr)
    return output


def _prediction(path: Path | None) -> str:
    """The class number in an answer, or an empty text if there is none or the picture could not be read."""
    number = None if path is None else _read(path)["prediction"]
    return "" if number is None else str(number)


def _read(path: Path) -> dict[str, Any]:
    """An answer; raises DataError if it is none of this image."""
    try:
        answer: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(answer["prediction"], int | None):
            raise TypeError(answer["prediction"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not an answer of this image, expected JSON with `prediction` ({error!r}): {path}") from None
    return answer


def _read_info(info: Path) -> tuple[list[dict[str, str]], list[str]]:
    if not info.is_file():
        raise DataError(f"--info does not exist, expected a csv file with a column ImageID: {info}")
    with info.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    if "ImageID" not in columns:
        raise DataError(f"--info has no column ImageID, its columns are {', '.join(columns)}: {info}")
    return rows, columns


def write_scheme(aws: Aws, model: str, answers: Iterable[Path], folder: Path) -> None:
    """Say beside output.csv what its class numbers mean, unless they are those of masked faces, as inference.py does.

    The model knows. A model that is gone is said: evaluation would take the numbers for masked faces.
    """
    (folder / SCHEME).unlink(missing_ok=True)
    if all(_is_masked_face(_read(path)) for path in answers):
        return
    archive = folder / "model.tar.gz"
    try:
        described = aws.call("sagemaker", "DescribeModel", ModelName=model)
        fetch(aws, described["PrimaryContainer"]["ModelDataUrl"], archive)
        scheme = _scheme_of(archive)
    except (AwsError, DataError) as error:
        print(f"{SCHEME} is missing, without it these classes cannot be evaluated: {error}", file=sys.stderr)
        return
    finally:
        archive.unlink(missing_ok=True)
    with replacing(folder / SCHEME) as file:
        file.write(json.dumps(scheme.to_dict(), indent=2) + "\n")


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
