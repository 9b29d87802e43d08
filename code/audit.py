"""Audit a data set: duplicates, labels that may be wrong, and images that a model cannot learn from.

    SM_CHANNEL_TRAIN=data/train SM_CHANNEL_EVAL=data/eval SM_AUDIT_DIR=audit python code/audit.py

In: the folder to train on and, if they are there, those to validate with and to label; after a training also its model
and its run folder, after cross-validation its oof.csv. Out: audit.html, one self-contained page, and audit.csv, a row
for each finding.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.template_process import start_early
from options.audit import AuditConfig, AuditPaths
from runtime.arguments import parse
from runtime.failure import guard, write_message
from runtime.process import limit_openmp_spinning, name_unknown_user

if __name__ == "__main__":  # answer --help and a mistyped flag before pandas and numpy are imported
    guard(lambda: parse("audit.py", sys.argv[1:], os.environ, AuditPaths, AuditConfig))
    name_unknown_user()
    limit_openmp_spinning()
    start_early()

import numpy as np
from numpy.typing import NDArray

from data.audited import PARTS, VALIDATION, AuditedImage, find_split, has_files, read_images
from data.decode_board import DecodeLimits
from data.duplicates import find_duplicates
from data.findings import (
    KINDS,
    Finding,
    as_csv,
    by_severity,
    class_findings,
    duplicate_findings,
    image_findings,
    suspect_findings,
)
from data.looking import look, thumbnails
from data.out_of_fold import OOF_CSV, OutOfFold, find_out_of_fold
from data.suspects import find_suspects
from labels import MULTI, LabelScheme
from report.audit_page import render_audit, shown
from runtime.files import check_writable, replacing


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: look at every image, write audit.html and audit.csv, print the number of findings."""
    paths, config = parse("audit.py", argv, environ, AuditPaths, AuditConfig)
    limits = DecodeLimits.from_options(config.decode_seconds, config.decode_memory_mb)
    folder = paths.audit_dir or paths.output_dir / "audit"
    check_writable(folder)
    split = find_split(paths.output_dir)
    images, scheme = read_images(
        config.dataset, paths.data_dir, paths.validation_dir, paths.eval_dir, split, paths.labels_dir
    )
    looked = look([image.file for image in images], config.threads, limits)
    pairs = find_duplicates(looked.signatures, looked.digests, looked.usable)
    labelled = [
        image
        for image, usable in zip(images, looked.usable.tolist(), strict=True)
        if usable and image.label in scheme.classes
    ]
    out_of_fold = find_out_of_fold(paths.output_dir, scheme)
    suspected = (
        suspected_out_of_fold(out_of_fold, labelled, scheme)
        if out_of_fold
        else suspected_labels(paths.model_dir, labelled, scheme, config, limits)
    )
    findings = by_severity(
        [
            *duplicate_findings(images, pairs),
            *suspected,
            *image_findings(images, looked, min_side=config.min_side, max_ratio=config.max_ratio),
            *class_findings(images, looked, scheme, config.min_images),
        ]
    )
    write_audit(folder, images, looked.sizes, findings, config.threads, limits)
    counts = Counter([image.part for image in images] + [finding.kind for finding in findings])
    line = f"images={len(images)}; " + "".join(f"{name}={counts[name]}; " for name in (*PARTS, *KINDS))
    print(f"{line}page: {folder / 'audit.html'}", flush=True)
    write_message(line.strip())


def suspected_labels(
    model_dir: Path,
    labelled: Sequence[AuditedImage],
    scheme: LabelScheme,
    config: AuditConfig,
    limits: DecodeLimits,
) -> list[Finding]:
    """Return the labels of the validation images that the model contradicts; none before a training, or of several."""
    if scheme.kind == MULTI:
        print("labels are suspected only where each image has one; these images have several", file=sys.stderr)
        return []
    labelled = [image for image in labelled if image.part == VALIDATION]
    if not labelled or not (model_dir.is_file() or has_files(model_dir)):
        missing = f"no model in {model_dir}" if labelled else "no split.csv of a run, and no validation folder"
        print(f"labels are suspected after a training only: there is {missing}", file=sys.stderr)
        return []
    from training.validation import predict_images  # torch takes seconds to import, and only this needs it

    files = [image.file for image in labelled]
    probabilities = predict_images(
        model_dir, scheme, files, device=config.device, processes=config.threads, limits=limits
    )
    return _contradicted(labelled, probabilities, scheme)


def suspected_out_of_fold(found: OutOfFold, labelled: Sequence[AuditedImage], scheme: LabelScheme) -> list[Finding]:
    """Return the labels of all images that the models of cross-validation contradict, each of images it has not seen.

    An image without a prediction, such as one that was added since, is not judged.
    """
    rows = {path: row for row, path in enumerate(found.paths)}
    judged = [image for image in labelled if image.row in rows]
    print(f"labels are compared with {OOF_CSV}: {len(judged)} of {len(labelled)} labelled images", file=sys.stderr)
    probabilities = found.probabilities[[rows[image.row] for image in judged]]
    return _contradicted(judged, probabilities, scheme) if judged else []


def _contradicted(
    images: Sequence[AuditedImage], probabilities: NDArray[np.float32], scheme: LabelScheme
) -> list[Finding]:
    """Return the suspected labels of images, whose predictions are `probabilities` (images, classes)."""
    labels = np.array([scheme.classes.index(image.label) for image in images])
    return suspect_findings(images, find_suspects(labels, probabilities, scheme))


def write_audit(
    folder: Path,
    images: Sequence[AuditedImage],
    sizes: NDArray[np.int64],
    findings: Sequence[Finding],
    processes: int,
    limits: DecodeLimits,
) -> None:
    """Write audit.html, with small copies of the images that it shows, and audit.csv, with every finding."""
    paths = [image.path for image in images]
    wanted = _indices(paths, shown(findings))
    files = thumbnails([images[index].file for index in wanted], sizes[wanted], processes, limits)
    page = render_audit(images, findings, dict(zip((paths[index] for index in wanted), files, strict=True)))
    for name, text in (("audit.csv", as_csv(findings)), ("audit.html", page)):
        with replacing(folder / name) as file:
            file.write(text)


def _indices(paths: Sequence[str], findings: Iterable[Finding]) -> list[int]:
    """Return the indices of the images that findings name."""
    named = {path for finding in findings for path in (finding.path, finding.other_path)}
    return [index for index, path in enumerate(paths) if path in named]


if __name__ == "__main__":
    guard(lambda: main(sys.argv[1:], os.environ))
