"""The three routes of the server and the model behind them.

    GET  /ping                    200 once the model is loaded and warm; 503 before, and while the server stops
    POST /invocations             an image in, a class out
    GET  /execution-parameters    how batch transform should send its images

bodies.py reads requests, responses.py writes responses.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from data.decode_board import DecodeLimits
from runtime.errors import DecodingError, ImageError, ModelError
from sagemaker_limits import BATCH_TRANSFORM_MB
from server.batching import Batcher, QueueFullError
from server.bodies import BodyReader, check_types, is_gzipped, overloaded
from server.http_timeouts import ON_HANG_UP
from server.lanes import choose_lanes
from server.responses import Format, RequestError, Writer, choose_format
from server.settings import ServeConfig
from server.slot_pool import Decoding, SlotPool

if TYPE_CHECKING:
    from server.classifier import Classifier

STATUS_OF_IMAGE = {"empty": 400, "too_large": 413, "too_expensive": 413}  # else 422
STATUS_OF_BODY = {"bad_gzip": 400, "payload_too_large": 413, "overloaded": 503}  # errors, also in batch transform
CLOSE_SECONDS = 4.0  # for the thread of the model to end
MORE_SLOTS = 16  # besides twice those that may wait: for images that nobody wants and that a process still has
DECODER = "data.images:prepare"  # tests change it
ROUTES = "use GET /ping, POST /invocations or GET /execution-parameters"


@dataclass(frozen=True)
class Ready:
    """A model that is loaded and warm, and what uses it."""

    classifier: "Classifier"
    slots: SlotPool
    batcher: Batcher
    writer: Writer


class Service:
    """The state that the three routes share: the model once it is loaded, and whether the server is stopping."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.bodies = BodyReader(config.max_payload_bytes, 2 * BATCH_TRANSFORM_MB << 20)
        self.ready: Ready | None = None
        self.failure: Exception | None = None  # why the model cannot be loaded
        self.is_stopping = False  # accepts what still comes
        self.has_given_up = False  # does not accept anything anymore
        self.is_stuck = False  # its threads did not end in time

    def app(self) -> Starlette:
        routes = [
            Route("/ping", self.ping),
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/execution-parameters", self.execution_parameters),
        ]
        handlers: dict[Any, Any] = {
            RequestError: _request_error,
            HTTPException: _http_exception,
            Exception: _internal_error,
        }
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        app.router.redirect_slashes = False
        return app

    async def ping(self, request: Request) -> Response:
        return Response(status_code=200 if self.ready and not self.is_stopping else 503)

    async def execution_parameters(self, request: Request) -> Response:
        classifier = self._require_ready().classifier
        parameters = self.config.execution_parameters(classifier.device, classifier.cpus)
        digest = f"{classifier.digest} {self.config.precision} {self.config.tta}"
        return JSONResponse(parameters, headers={"x-model-digest": digest})

    async def invocations(self, request: Request) -> Response:
        ready = self._require_ready()
        if self.has_given_up:
            raise stopping()
        wanted = choose_format(", ".join(request.headers.getlist("accept")) or None)
        check_types(request)
        try:
            response = await self._classify(ready, request, wanted)
        except QueueFullError:
            raise overloaded() from None
        except (ClientDisconnect, HungUp):
            return Response()  # which nobody reads
        except ImageError as error:
            if error.code in STATUS_OF_BODY:
                raise RequestError(STATUS_OF_BODY[error.code], error.code, str(error)) from None
            message = f"{error}: the image"
            if not self.config.bad_images_get_rows:
                raise RequestError(STATUS_OF_IMAGE.get(error.code, 422), error.code, message) from None
            response = ready.writer.error(error.code, message, wanted)
        if self.is_stopping:
            response.headers["connection"] = "close"
        return response

    async def _classify(self, ready: Ready, request: Request, wanted: Format) -> Response:
        if ready.batcher.is_full:  # checked before the body is read
            raise QueueFullError
        with self.bodies.buffer() as body:
            await self.bodies.read(request, body)
            future = ready.batcher.enqueue(body.take(), is_gzipped=is_gzipped(request))
            request.scope[ON_HANG_UP] = future.cancel
            try:
                return ready.writer.prediction(await future, wanted)
            except asyncio.CancelledError:
                if _is_cancelled_itself():
                    raise
                raise HungUp from None  # the future was

    def give_up(self) -> None:
        """Respond with 503 to all requests that have no prediction yet, and to all that still come."""
        self.has_given_up = True
        self.bodies.give_up(stopping())
        if self.ready:
            self.ready.batcher.give_up(stopping())

    def _require_ready(self) -> Ready:
        if self.ready is None:
            raise RequestError(503, "loading", "the model is still loading; retry in a second")
        return self.ready

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load the model in the background, while /ping already responds; end the threads when the server stops."""
        loading = asyncio.create_task(self._load())
        yield
        done, _ = await asyncio.wait([loading], timeout=CLOSE_SECONDS)
        self.is_stuck = not done
        if self.ready:
            self.is_stuck = not self.ready.batcher.close(CLOSE_SECONDS)
            self.ready.slots.close()
            images, batches = self.ready.batcher.images, self.ready.batcher.batches
            print(f"ended; pictures={images}; batches={batches}; mean_batch={images / max(1, batches):.1f}")

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            classifier, writer = await asyncio.to_thread(_load_model, self.config)
            slots = await asyncio.to_thread(_start_decoding, self.config, classifier)
            batcher = Batcher(
                classifier,
                slots,
                batch_size=self.config.batch_size,
                max_waiting=self.config.max_waiting,
                warm_up=classifier.warm_up,
            )
            await batcher.started
        except Exception as error:  # serve.py raises it after the server has stopped
            self.failure = error
            return
        self.ready = Ready(classifier, slots, batcher, writer)
        batcher.failed.add_done_callback(self._fail)
        how = f"device={classifier.device}; precision={self.config.precision}; threads={classifier.cpus}"
        how += f"; engine={self.config.engine}" if self.config.engine != "torch" else ""
        print(f"ready: {classifier.name}; {how}; seconds={time.monotonic() - started:.1f}", flush=True)

    def _fail(self, failed: "asyncio.Future[DecodingError]") -> None:
        """Stop: nothing can be decoded any more."""
        if not failed.cancelled():
            self.failure = failed.result()


class HungUp(Exception):
    """The client has closed the connection."""


def _is_cancelled_itself() -> bool:
    """Return whether the current task is cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def stopping() -> RequestError:
    return RequestError(503, "stopping", "the server is stopping; send the request again")


def _load_model(config: ServeConfig) -> "tuple[Classifier, Writer]":
    """Return the loaded model and what writes its predictions; raise ModelError if either cannot be used."""
    classifier = _load_classifier(config)
    try:
        writer = Writer(classifier.labelling, classifier.thresholds)
        writer.prediction(np.zeros(classifier.scheme.num_classes, np.float32), Format())
    except Exception as error:  # whatever names made by hand make Python raise
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"the classes in model.json cannot be used ({reason}): {config.model_dir}") from error
    return classifier, writer


def _load_classifier(config: ServeConfig) -> "Classifier":
    """Return the loaded model; its engine is imported here, and torch takes seconds, in which /ping responds."""
    from server.classifier import Classifier

    return Classifier(config)


def _start_decoding(config: ServeConfig, classifier: "Classifier") -> SlotPool:
    """Start the processes that decode; raise DecodingError if that is not possible."""
    limits = DecodeLimits.from_options(config.decode_seconds, config.decode_memory_mb)
    lanes = choose_lanes(classifier.cpus, config.max_waiting, is_batch=config.batch)
    slots = 2 * config.max_waiting + MORE_SLOTS
    return SlotPool(Decoding(classifier.preparation, limits, config.max_payload_bytes, DECODER), lanes, slots)


async def _request_error(request: Request, error: RequestError) -> Response:
    return error.response()


async def _http_exception(request: Request, error: HTTPException) -> Response:
    """Return the response to a request that starlette rejects: an unknown route or method."""
    code, wrong = {
        404: ("not_found", "unknown route"),
        405: ("method_not_allowed", "method not allowed"),
    }.get(error.status_code, ("bad_request", "bad request"))
    response = RequestError(error.status_code, code, f"{wrong}; {ROUTES}").response()
    response.headers.update(error.headers or {})
    return response


async def _internal_error(request: Request, error: Exception) -> Response:
    """Return the response to a request that met a bug of ours; its traceback goes to the log, not to the client."""
    return RequestError(500, "internal_error", "the server failed on this request; see its log").response()
