"""Fetch what a job left in S3: the model and the outputs of training, the answers of a transform, an evaluation."""

from pathlib import Path

from data.tables import write_answers
from jobs.aws import Aws, AwsError
from jobs.s3 import extract, fetch, fetch_folder
from jobs.transform_results import find_scheme, join
from jobs.watch import KINDS, Job, describe, find
from runtime.errors import JobError


def download(aws: Aws, name: str, folder: Path, info: Path | None = None) -> list[Path]:
    """Write what a job left into a folder; returns where to look, most important first.

    Training and tuning (its best job): model/ and output/. Transform: answers/ and output.csv, with the rows of `info`,
    as code/inference.py writes it. Evaluation: evaluation.json. Raises JobError if there is nothing yet.
    """
    job = find(aws, name)
    match job.kind.noun:
        case "TrainingJob":
            return _fetch_training(aws, job, folder)
        case "HyperParameterTuningJob":
            best = job.facts.get("BestTrainingJob", {}).get("TrainingJobName")
            if best is None:
                raise JobError(f"{job.title} has no best training job yet; `submit.py wait {name}`")
            return _fetch_training(aws, describe(aws, KINDS[0], best), folder)
        case "TransformJob":
            answers = fetch_folder(aws, job.facts["TransformOutput"]["S3OutputPath"], folder / "answers")
            _refuse_nothing(job, answers)
            table = join(answers, folder / "answers", info)
            scheme = find_scheme(aws, job.facts["ModelName"], answers, folder)
            return [write_answers(folder, table, scheme), folder / "answers"]
        case "ProcessingJob":
            outputs = job.facts["ProcessingOutputConfig"]["Outputs"]
            paths = [path for output in outputs for path in fetch_folder(aws, output["S3Output"]["S3Uri"], folder)]
            _refuse_nothing(job, paths)
            return paths
    raise JobError(f"{job.title} leaves no files; name a job")


def _fetch_training(aws: Aws, job: Job, folder: Path) -> list[Path]:
    """model.tar.gz and output.tar.gz, unpacked into model/ and output/; the archives are not kept."""
    model_uri = job.facts.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not model_uri:
        raise JobError(f"{job.title} has left no model: {job.line()}")
    places = []
    for name in ("model", "output"):
        archive = folder / f"{name}.tar.gz"
        try:
            fetch(aws, f"{model_uri.rpartition('/')[0]}/{archive.name}", archive)
        except AwsError as error:
            if name == "model" or not error.is_absent:
                raise AwsError(f"{error}; {job.title} left no {archive.name}", error.code) from None
            continue
        extract(archive, folder / name)
        archive.unlink()
        places.append(folder / name)
    return places


def _refuse_nothing(job: Job, paths: list[Path]) -> None:
    if not paths:
        raise JobError(f"{job.title} has left no files yet: {job.line()}")
