"""Do to a folder what SageMaker Batch Transform does to a prefix in S3, and join the predictions to info.csv.

    SM_CHANNEL_EVAL=data/eval SM_CHANNEL_MODEL=model SM_OUTPUT_DATA_DIR=output python container/transform.py

Start the server with the model (or use the one at --url), wait for /ping, ask /execution-parameters, post every image
with that concurrency, and write each response to transform/NAME.out in the output folder. A run that was stopped is
resumed. As on SageMaker, the job fails if one object fails, and the other responses are kept. At the end output.csv has
one row for each row of info.csv, in its order, and is byte for byte that of code/inference.py.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from anywhere, as it lies

from tqdm import tqdm

from batch.client import Endpoint, Parameters, is_address
from batch.local_server import local_server
from batch.results import OutputFolder, Response, announce_missing_scheme, are_masked_faces, join
from data.images import MAX_BYTES, read_file
from data.listing import is_file, size_bytes
from data.tables import SCHEME_JSON, find_images, find_root, write_predictions
from description import DESCRIPTION
from labels import LabelScheme
from model_folder import find, read_description
from options.inference import ANSWERS, ANSWERS_HELP, STATUS_HELP
from runtime.arguments import folder, option, parse
from runtime.errors import DataError, ImageError, ModelError
from runtime.failure import run
from sagemaker_limits import BATCH_TRANSFORM_MB, DEFAULT_PAYLOAD_MB, INVOCATION_RETRIES, INVOCATION_SECONDS


@dataclass(frozen=True, kw_only=True)
class TransformConfig:
    """Label images through the server, as SageMaker Batch Transform does."""

    data_dir: Path = folder("SM_CHANNEL_EVAL", "/opt/ml/input/data/eval", "images to label, with info.csv or without")
    model_dir: Path = folder("SM_CHANNEL_MODEL", "./model", "model to serve, or that of --url")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "folder for output.csv and transform/NAME.out")
    answers: str = option("index", ANSWERS_HELP, choices=ANSWERS)
    status: bool = option(False, STATUS_HELP)
    url: str = option("", "running server to use, such as http://127.0.0.1:8080, instead of one with --model-dir")
    max_concurrent_transforms: int = option(
        0, "concurrent requests, 0 for what the server proposes", minimum=0, maximum=BATCH_TRANSFORM_MB
    )
    max_payload_mb: int = option(
        0,
        "largest image in MB, 0 for that of the folder, or what --url proposes",
        minimum=0,
        maximum=BATCH_TRANSFORM_MB,
    )
    timeout_seconds: int = option(600, "longest wait for one response", minimum=1, maximum=INVOCATION_SECONDS)
    max_retries: int = option(3, "retries after a 5xx or no response", minimum=0, maximum=INVOCATION_RETRIES)

    def problems(self) -> list[str]:
        """Return a sentence if no server can be at --url."""
        if not self.url or is_address(self.url):
            return []
        return [f"--url: {self.url!r} is not the address of a server, expected one such as http://127.0.0.1:8080"]


def main() -> None:
    """Run the command: a server, a request for every image, one table."""
    (config,) = parse("transform.py", sys.argv[1:], os.environ, TransformConfig)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # an exit stops the server, too
    transform(config)


def transform(config: TransformConfig) -> Path:
    """Label every image of `data_dir` and return the path of output.csv; raise a JobError if there is none."""
    table, files = find_images(config.data_dir)
    prefix = find_root(config.data_dir)
    objects = [object_name(path, prefix) for path in files]
    existing = {name for name, path in zip(objects, files, strict=True) if is_file(path)}
    with serving(config, payload_mb(prefix, existing)) as endpoint:
        endpoint.wait()
        parameters = endpoint.parameters(config.max_concurrent_transforms, config.max_payload_mb)
        scheme = read_scheme(config, parameters.model_sha256)
        outputs = OutputFolder(config.output_dir / "transform")
        send_all(endpoint, prefix, sorted(existing), set(objects) - existing, outputs, parameters)
    responses = {
        name: (outputs.read(found) if found in existing else {}) or without_response(path)
        for name, found, path in zip(table.names, objects, files, strict=True)
    }
    table, reasons = join(table, responses, config.answers, config.status)
    for name, reason in reasons.items():
        print(f"no prediction: {reason}: {prefix / name}", file=sys.stderr)
    if scheme is None and not are_masked_faces(responses.values()):
        announce_missing_scheme(f"there is no model at --model-dir: {config.model_dir}")
    output = write_predictions(config.output_dir, table, scheme, config.answers)
    unsure = [response["unsure"] is True for response in responses.values() if "unsure" in response]
    counts = f"pictures={len(table.rows)}; unreadable={len(reasons)};" + (f" unsure={sum(unsure)};" if unsure else "")
    print(f"{counts} output: {output}", flush=True)
    return output


def without_response(path: Path) -> Response:
    """Return the code of the error of an image that could not be sent, as in a response; nothing if it can be read."""
    try:
        read_file(path)
    except ImageError as error:
        return {"prediction": None, "error": {"code": error.code}}
    return {}


def payload_mb(prefix: Path, names: Collection[str]) -> int:
    """Return the payload in MB that the largest image needs, at least SageMaker's default.

    Images above the limit of inference.py do not count: they get a row without a prediction, and are not sent.
    """
    sizes = (size_bytes(prefix / name) or 0 for name in names)
    largest = max((size for size in sizes if size <= MAX_BYTES), default=0)
    return max(DEFAULT_PAYLOAD_MB, -(-largest >> 20))


@contextlib.contextmanager
def serving(config: TransformConfig, largest_mb: int) -> Iterator[Endpoint]:
    """Yield the server at --url, or one for images of `largest_mb` that is started here and stopped after the block."""
    build = partial(Endpoint, timeout_seconds=config.timeout_seconds, max_retries=config.max_retries)
    if config.url:
        yield build(config.url)
        return
    with local_server(config.model_dir, config.max_payload_mb or largest_mb) as (url, is_alive):
        yield build(url, is_alive=is_alive)


def object_name(path: Path, prefix: Path) -> str:
    """Return the name of an image as SageMaker would list it: relative to the folder, or else its whole path."""
    return path.relative_to(prefix).as_posix() if path.is_relative_to(prefix) else str(path)


def send_all(
    endpoint: Endpoint,
    prefix: Path,
    names: list[str],
    missing: Collection[str],
    outputs: OutputFolder,
    parameters: Parameters,
) -> None:
    """Post every object that has no response yet; raise DataError that names up to three that failed.

    Objects that are `missing` lose the responses that they got when they were there.
    """
    failures = []
    with outputs.resume(prefix, names, parameters.digest, missing) as (journal, pending):
        done = len(names) - len(pending)
        print(
            f"objects={len(names)}; answered before={done}; "
            f"at once={parameters.concurrency}; MB at most={parameters.payload_mb}",
            flush=True,
        )
        started = time.monotonic()
        outcomes = _outcomes(endpoint, prefix, partial(outputs.write, journal), parameters, pending)
        with tqdm(total=len(names), initial=done, unit=" images", dynamic_ncols=True, disable=None) as bar:
            for name, failure in zip(pending, outcomes, strict=True):
                failures += [f"{failure}: {prefix / name}"] if failure else []
                bar.update()
    speed = len(pending) / (time.monotonic() - started)
    print(f"sent={len(pending)}; failed={len(failures)}; images_per_second={speed:.1f}", flush=True)
    if failures:
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise DataError(
            f"{len(failures)} of {len(names)} objects failed, which fails the job as it does on SageMaker; "
            f"the other responses are kept, run it again to retry: {'; '.join(failures[:3])}{more}"
        )


def _outcomes(
    endpoint: Endpoint,
    prefix: Path,
    write: Callable[[str, bytes, bytes], None],
    parameters: Parameters,
    names: list[str],
) -> Iterator[str]:
    """Yield for each object, in order, the reason why it failed, or an empty text.

    `write` takes the name of an object, its bytes and the response to them.
    """

    def send(name: str) -> str:
        try:
            posted = read_file(prefix / name)
        except ImageError as error:
            # No response is a row without a prediction, as inference.py writes it.
            return "" if is_file(prefix / name) else str(error).removesuffix(f": {prefix / name}")
        if len(posted) > parameters.payload_mb << 20:
            return f"larger than the {parameters.payload_mb} MB of --max-payload-mb"
        try:
            write(name, posted, endpoint.invoke(posted))
        except DataError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(parameters.concurrency) as pool:
        try:
            yield from pool.map(send, names)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_scheme(config: TransformConfig, served_sha256: str) -> LabelScheme | None:
    """Return the label scheme of the server's model, or None if that model is not on this machine.

    `served_sha256` is that of the server's model.json, empty if the server does not send it. Raises ModelError for a
    --model-dir whose model cannot be read or is another one, before anything is sent.
    """
    if config.url and not has_model(config):
        return None
    description, own = read_description(find(config.model_dir))
    if served_sha256 and own != served_sha256:
        raise ModelError(
            f"--model-dir holds another model than the server at --url (sha256 of {DESCRIPTION} {own[:12]}, of the "
            f"server's {served_sha256[:12]}); pass the server's model, or a folder that does not exist to do without "
            f"{SCHEME_JSON}: {config.model_dir}"
        )
    if not served_sha256:
        print(
            f"warning: the server does not say which model it has, so {SCHEME_JSON} is that of --model-dir without a "
            f"comparison: {config.model_dir}",
            file=sys.stderr,
        )
    return description.scheme


def has_model(config: TransformConfig) -> bool:
    """Return whether there is anything at --model-dir, whose default is for a server of its own."""
    return config.model_dir.is_file() or (config.model_dir.is_dir() and any(config.model_dir.iterdir()))


if __name__ == "__main__":
    run(main)
