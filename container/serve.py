"""Answer over HTTP, as a SageMaker endpoint and in batch transform.

    SM_MODEL_DIR=model python container/serve.py

The settings are those of settings.py, the routes those of app.py. SIGTERM ends the server, but every request
that has come is answered first. A model that cannot be used is one sentence on stderr, and exit code 1.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

if __name__ == "__main__":  # from here until uvicorn listens to it; the kernel hands PID 1 no signal unasked
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from anywhere, as it lies

import uvicorn

from runtime.arguments import parse
from runtime.errors import ConfigError
from runtime.failure import run
from server.app import Service
from server.http_timeouts import DeadlineProtocol
from server.settings import ServeConfig

QUIET_SECONDS = 0.5  # without a request, before a server that is to end closes its door
DRAIN_SECONDS = 12.0  # and closes it at the latest; what is in flight then has GRACE_SECONDS more
GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """Uvicorn that answers what has come before it ends, ends with exit code 0, and ends if there is no model."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self._busy_until = self._drain_until = 0.0
        self._requests = 0  # so far, at the last tick

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.is_ending:
            os._exit(128 + sig)
        self.service.is_ending = True
        self._busy_until = time.monotonic()
        self._drain_until = self._busy_until + DRAIN_SECONDS

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second: whether it is time to close the door."""
        now = time.monotonic()
        if self.server_state.tasks or self.server_state.total_requests != self._requests:
            self._busy_until, self._requests = now, self.server_state.total_requests
        is_quiet = now > self._busy_until + QUIET_SECONDS or now > self._drain_until
        is_over = self.service.failure is not None or (self.service.is_ending and is_quiet)
        return await super().on_tick(counter) or is_over


def serve(config: ServeConfig, listener: socket.socket) -> None:
    """Serve until SIGTERM; raises what made the model unusable."""
    service = Service(config)
    protocol = cast(type[asyncio.Protocol], partial(DeadlineProtocol, config.receive_seconds))
    settings = uvicorn.Config(
        service.app(),
        http=protocol,
        ws="none",
        loop="uvloop",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a load balancer keeps a connection idle, so that it is who closes it
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=2048,
    )
    Server(settings, service).run(sockets=[listener])
    if service.failure:
        raise service.failure


def listen(config: ServeConfig) -> socket.socket:
    """A socket at the configured port; raises ConfigError if it cannot be had."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        remedy = "SAGEMAKER_BIND_TO_PORT to a free one" if is_taken else "SERVE_HOST to an address of this machine"
        reason = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"cannot listen at {config.host} port {config.port} ({reason}); set {remedy}") from None


def main() -> None:
    """The command: settings from the environment, one server."""
    (config,) = parse("serve.py", sys.argv[1:], os.environ, ServeConfig)
    with listen(config) as listener:
        host, port = listener.getsockname()[:2]
        print(f"listening: http://{host}:{port}", flush=True)
        serve(config, listener)


if __name__ == "__main__":
    run(main)
