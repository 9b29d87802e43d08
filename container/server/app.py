"""The three routes, and the model behind them; one instance serves one process.

    GET  /ping                    200 when the model is loaded and warm, 503 before and while the server ends
    POST /invocations             an image in, a class out
    GET  /execution-parameters    how batch transform should send its images

What comes back, responses.py says; what may come in, bodies.py.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from data.images import Pixels
from runtime.errors import ImageError
from server.batching import Batcher, QueueFullError
from server.bodies import Intake, check_types, decompress, is_gzipped, overloaded
from server.responses import Format, Problem, Writer, choose_format
from server.settings import BATCH_TRANSFORM_MB, ServeConfig

if TYPE_CHECKING:
    from server.classifier import Classifier

STATUS_OF_IMAGE = {"empty": 400, "too_large": 413}  # else 422


@dataclass(frozen=True)
class Ready:
    """A model that is loaded and warm."""

    classifier: "Classifier"
    batcher: Batcher
    writer: Writer


class Service:
    """What the three routes share: the model once it is loaded, and whether the server is to end."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.intake = Intake(config.max_payload_bytes, 2 * BATCH_TRANSFORM_MB << 20)
        self.ready: Ready | None = None
        self.failure: Exception | None = None  # why the model cannot be loaded
        self.is_ending = False

    def app(self) -> Starlette:
        routes = [
            Route("/ping", self.ping),
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/execution-parameters", self.execution_parameters),
        ]
        handlers: dict[Any, Any] = {Problem: _reply, HTTPException: _reply, Exception: _apologize}
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        app.router.redirect_slashes = False
        return app

    async def ping(self, request: Request) -> Response:
        return Response(status_code=200 if self.ready and not self.is_ending else 503)

    async def execution_parameters(self, request: Request) -> Response:
        classifier = self._ready().classifier
        parameters = self.config.execution_parameters(classifier.device.type, classifier.cpus)
        return JSONResponse(parameters, headers={"x-model-digest": f"{classifier.digest} {self.config.precision}"})

    async def invocations(self, request: Request) -> Response:
        ready = self._ready()
        wanted = choose_format(", ".join(request.headers.getlist("accept")) or None)
        check_types(request)
        try:
            reply = await self._classify(ready, request, wanted)
        except QueueFullError:
            raise overloaded() from None
        except ClientDisconnect:
            return Response()  # that nobody reads
        except ImageError as error:
            if not self.config.bad_images_get_rows:
                raise Problem(STATUS_OF_IMAGE.get(error.code, 422), error.code, str(error)) from None
            reply = ready.writer.error(error.code, str(error), wanted)
        if self.is_ending:
            reply.headers["connection"] = "close"
        return reply

    async def _classify(self, ready: Ready, request: Request, wanted: Format) -> Response:
        if ready.batcher.is_full:  # known before the body is read
            raise QueueFullError
        with self.intake.holding() as chunks:
            await self.intake.read(request, chunks)
            prepare = partial(self._prepare, ready.classifier, chunks, is_gzipped(request))
            return ready.writer.answer(await ready.batcher.submit(prepare), wanted)

    def _prepare(self, classifier: "Classifier", chunks: Sequence[bytes], gzipped: bool) -> Pixels:
        """In a thread of its own: the pixels of a body."""
        body = b"".join(chunks)
        if gzipped:
            body = decompress(body, self.config.max_payload_bytes)
        return classifier.prepare(body)

    def _ready(self) -> Ready:
        if self.ready is None:
            raise Problem(503, "loading", "the model is not loaded yet; come back in a second")
        return self.ready

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load the model while /ping already answers, end the threads when the server ends."""
        loading = asyncio.create_task(self._load())
        yield
        await loading
        if self.ready:
            self.ready.batcher.close()
            images, batches = self.ready.batcher.images, self.ready.batcher.batches
            print(f"ended; pictures={images}; batches={batches}; mean_batch={images / max(1, batches):.1f}")

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            classifier = await asyncio.to_thread(_load_classifier, self.config)
        except Exception as error:  # main raises it, when the server has ended
            self.failure = error
            return
        batcher = Batcher(
            classifier,
            batch_size=self.config.batch_size,
            max_waiting=self.config.max_waiting,
            threads=classifier.cpus,
        )
        self.ready = Ready(classifier, batcher, Writer(classifier.scheme))
        how = f"device={classifier.device}; precision={self.config.precision}; threads={classifier.cpus}"
        print(f"ready: {classifier.name}; {how}; seconds={time.monotonic() - started:.1f}", flush=True)


def _load_classifier(config: ServeConfig) -> "Classifier":
    """Importing torch takes seconds, in which /ping can already say that it is not time yet."""
    from server.classifier import Classifier

    return Classifier(config)


async def _reply(request: Request, error: Exception) -> Response:
    """What is wrong with a request, whether we or starlette noticed."""
    if isinstance(error, Problem):
        return error.reply()
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    sentence = "there are GET /ping, POST /invocations and GET /execution-parameters"
    reply = Problem(error.status_code, codes.get(error.status_code, "bad_request"), sentence).reply()
    reply.headers.update(error.headers or {})
    return reply


async def _apologize(request: Request, error: Exception) -> Response:
    """Our own bug: its traceback goes to the log, not to the client."""
    return Problem(500, "internal_error", "the server failed at this request; its log says why").reply()
