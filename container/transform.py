"""Do to a folder what SageMaker Batch Transform does to a prefix in S3, and join the answers to info.csv.

    SM_CHANNEL_EVAL=data/eval SM_CHANNEL_MODEL=model SM_OUTPUT_DATA_DIR=output python container/transform.py

Starts the server with the model (or takes the one at --url), waits for /ping, asks /execution-parameters, posts every
object with that concurrency, and writes the answer to transform/NAME.out below the output folder. A run that was
stopped goes on where it was. As on SageMaker, the job fails if one object fails, and the other answers stay. At the
end output.csv has one row for every row of info.csv, in its order, byte for byte that of code/inference.py.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from anywhere, as it lies

from tqdm import tqdm

from batch.client import Endpoint, Parameters
from batch.local_server import local_server
from batch.results import Answers, find_objects
from data.tables import find_images, find_root, write_answers
from labels import LabelScheme
from runtime.arguments import folder, option, parse
from runtime.errors import DataError
from runtime.failure import run


@dataclass(frozen=True, kw_only=True)
class TransformConfig:
    """Label images through the server, as SageMaker Batch Transform does."""

    data_dir: Path = folder("SM_CHANNEL_EVAL", "/opt/ml/input/data/eval", "images to label, with info.csv or without")
    model_dir: Path = folder("SM_CHANNEL_MODEL", "./model", "model folder to serve")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "where output.csv and transform/NAME.out go")
    url: str = option("", "a server that runs already, such as http://127.0.0.1:8080, instead of one with --model-dir")
    max_concurrent_transforms: int = option(
        0, "requests in flight, 0 for what the server proposes", minimum=0, maximum=100
    )
    max_payload_mb: int = option(0, "largest image in MB, 0 for what the server proposes", minimum=0, maximum=100)
    timeout_seconds: int = option(600, "longest wait for one answer", minimum=1, maximum=3600)
    max_retries: int = option(3, "how often to ask again after a 5xx or no answer", minimum=0, maximum=3)


def main() -> None:
    """The command: a server, a request for every image, one table."""
    (config,) = parse("transform.py", sys.argv[1:], os.environ, TransformConfig)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what is open is closed on the way
    transform(config)


def transform(config: TransformConfig) -> Path:
    """Label every image of `data_dir`; returns the path of output.csv. Raises a JobError, and then writes none."""
    with serving(config) as endpoint:
        table, _ = find_images(config.data_dir)
        prefix = find_root(config.data_dir)
        endpoint.wait()
        parameters = endpoint.parameters(config.max_concurrent_transforms, config.max_payload_mb)
        answers = Answers(config.output_dir / "transform")
        send_all(endpoint, prefix, answers, parameters)
    table, reasons = answers.join(table)
    for name, reason in reasons.items():
        print(f"no answer: {reason}: {prefix / name}", file=sys.stderr)
    output = write_answers(config.output_dir, table, read_scheme(config))
    print(f"pictures={len(table.rows)}; unreadable={len(reasons)}; output: {output}", flush=True)
    return output


@contextlib.contextmanager
def serving(config: TransformConfig) -> Iterator[Endpoint]:
    """The server at --url, or one of our own for as long as the block lasts."""
    build = partial(Endpoint, timeout_seconds=config.timeout_seconds, max_retries=config.max_retries)
    if config.url:
        yield build(config.url)
        return
    with local_server(config.model_dir, config.max_payload_mb) as (url, is_alive):
        yield build(url, is_alive=is_alive)


def send_all(endpoint: Endpoint, prefix: Path, answers: Answers, parameters: Parameters) -> None:
    """Post every object that has no answer yet; raises DataError that names up to three that got none."""
    names = find_objects(prefix)
    waiting = answers.begin(prefix, names, parameters.digest)
    done = len(names) - len(waiting)
    print(
        f"objects={len(names)}; answered before={done}; "
        f"at once={parameters.concurrency}; MB at most={parameters.payload_mb}",
        flush=True,
    )
    started = time.monotonic()
    failures = []
    with tqdm(
        total=len(names), initial=len(names) - len(waiting), unit=" images", dynamic_ncols=True, disable=None
    ) as bar:
        for name, failure in zip(waiting, _outcomes(endpoint, prefix, answers, parameters, waiting), strict=True):
            failures += [f"{failure}: {prefix / name}"] if failure else []
            bar.update()
    speed = len(waiting) / (time.monotonic() - started)
    print(f"sent={len(waiting)}; failed={len(failures)}; images_per_second={speed:.1f}", flush=True)
    if failures:
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise DataError(
            f"{len(failures)} of {len(names)} objects got no answer, which fails the job as it does on SageMaker; "
            f"what was answered is kept: {'; '.join(failures[:3])}{more}"
        )


def _outcomes(
    endpoint: Endpoint, prefix: Path, answers: Answers, parameters: Parameters, names: list[str]
) -> Iterator[str]:
    """For each object, in order, why it got no answer; empty if it got one."""

    def send(name: str) -> str:
        try:
            if (prefix / name).stat().st_size > parameters.payload_mb << 20:
                return f"larger than the {parameters.payload_mb} MB of --max-payload-mb"
            answers.write(prefix / name, name, endpoint.invoke((prefix / name).read_bytes()))
        except DataError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(parameters.concurrency) as pool:
        try:
            yield from pool.map(send, names)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_scheme(config: TransformConfig) -> LabelScheme | None:
    """What the classes mean, if the model lies here; a server at --url may have it elsewhere."""
    from model_files import DESCRIPTION, find

    if config.url and not config.model_dir.exists():
        return None
    return LabelScheme.from_dict(json.loads((find(config.model_dir) / DESCRIPTION).read_text())["scheme"])


if __name__ == "__main__":
    run(main)
