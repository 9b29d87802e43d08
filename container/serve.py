"""Serve a model over HTTP, as a SageMaker endpoint and in batch transform.

    SM_MODEL_DIR=model python container/serve.py

server/settings.py has the settings, server/app.py the routes. On SIGTERM the server responds to every request that has
arrived, to those that take too long with 503, and exits with 0 within 25 seconds. If the model cannot be used, it
prints one sentence and exits with 1.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

if __name__ == "__main__":  # until uvicorn sets its own handler; the kernel delivers to PID 1 only handled signals
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from anywhere, as it lies

import uvicorn

from data.template_process import start_early
from runtime.arguments import parse
from runtime.errors import ConfigError
from runtime.failure import run
from runtime.process import name_unknown_user
from server.app import Service
from server.http_timeouts import TimeoutProtocol
from server.settings import ServeConfig, unknown_settings
from server.slot_pool import SCRIPT

QUIET_SECONDS = 0.5  # a server that is stopping accepts requests until none has come for so long,
DRAIN_SECONDS = 12.0  # and no longer than this; then the rest gets a 503,
GRACE_SECONDS = 4  # and has so long to read it


class Server(uvicorn.Server):
    """Uvicorn that completes the requests that have arrived, exits with 0, and stops if the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self._busy_until = self._drain_until = 0.0
        self._requests = 0  # so far, at the last tick

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.is_stopping:
            os._exit(128 + sig)
        self.service.is_stopping = True
        self._busy_until = time.monotonic()
        self._drain_until = self._busy_until + DRAIN_SECONDS

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop accepting requests; uvicorn asks every tenth of a second."""
        now = time.monotonic()
        if self.server_state.tasks or self.server_state.total_requests != self._requests:
            self._busy_until, self._requests = now, self.server_state.total_requests
        is_quiet = now > self._busy_until + QUIET_SECONDS or now > self._drain_until
        is_done = self.service.failure is not None or (self.service.is_stopping and is_quiet)
        return await super().on_tick(counter) or is_done

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections, and the process at once if a thread is still busy, which nothing can interrupt."""
        self.service.give_up()
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._abort_connections)
        await super().shutdown(sockets)
        if self.service.is_stuck:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(0)

    def _abort_connections(self) -> None:
        """Close the connections of clients that do not read their responses."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(config: ServeConfig, listener: socket.socket) -> None:
    """Serve until SIGTERM; raise the error that made the model unusable."""
    service = Service(config)
    protocol = cast(type[asyncio.Protocol], partial(TimeoutProtocol, config.receive_seconds))
    settings = uvicorn.Config(
        service.app(),
        http=protocol,
        ws="none",
        loop="uvloop",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a load balancer keeps an idle connection, so that the balancer closes it
        timeout_graceful_shutdown=2 * GRACE_SECONDS,  # uvicorn cancels what is left then; nothing is
        backlog=2048,
    )
    Server(settings, service).run(sockets=[listener])
    if service.failure:
        raise service.failure


def listen(config: ServeConfig) -> socket.socket:
    """Return a socket that listens on the configured port; raise ConfigError if that is not possible."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        remedy = "SAGEMAKER_BIND_TO_PORT to a free port" if is_taken else "SERVE_HOST to an address of this machine"
        reason = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"cannot listen on {config.host} port {config.port} ({reason}); set {remedy}") from None


def base_url(host: str, port: int) -> str:
    """Return the URL of an address of a socket; one of IPv6 is in brackets there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def silence_pillow() -> None:
    """Log nothing about single images: what is wrong with one is in its response."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def main() -> None:
    """Run one server with the settings of the environment."""
    silence_pillow()
    (config,) = parse("serve.py", sys.argv[1:], os.environ, ServeConfig)
    for sentence in unknown_settings(os.environ):
        print(f"warning: {sentence}; it is ignored", file=sys.stderr, flush=True)
    start_early(SCRIPT)
    with listen(config) as listener:
        print(f"listening: {base_url(*listener.getsockname()[:2])}", flush=True)
        serve(config, listener)


if __name__ == "__main__":
    name_unknown_user()
    run(main)
