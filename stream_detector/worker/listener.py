"""The HTTP listener of a worker: `/livez`, `/readyz` and `/metrics`, for probes and for Prometheus.

It answers from threads of its own, so from the start on, and while the loop hangs.
"""

import socket
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from stream_detector.config import MetricsConfig
from stream_detector.errors import ConfigError
from stream_detector.foreign import printable, without_credentials
from stream_detector.health import Health

__all__ = ["listen"]

SILENCE = 5.0  # seconds that a client may be silent
MOST = 32  # connections at once; the oldest gives way to the next

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def listen(config: MetricsConfig, health: Health, metrics: Collector) -> None:
    """Listens at `metrics.host` and `metrics.port` as long as the process lives; port 0 = not at all.

    Raises `ConfigError` when the address cannot be had.
    """
    if not config.port:
        return
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server = _Server((config.host, config.port), _Handler)
    except OSError as error:
        raise ConfigError(
            f"metrics.port: cannot listen at {config.host}:{config.port} ({error.strerror}); choose another port"
        ) from None
    server.set_app(_application(health, make_wsgi_app(registry)))
    Thread(target=server.serve_forever, name="listener", daemon=True).start()


def _application(health: Health, metrics: Application) -> Application:
    """What answers a request."""

    def answer(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"] if environ["REQUEST_METHOD"] in {"GET", "HEAD"} else None
        if path == "/metrics":
            return metrics(environ, start)
        if path == "/livez":
            return _text(start, *_live(health))
        if path == "/readyz":
            return _text(start, *_ready(health))
        return _text(start, "404 Not Found", ["not found; here are /livez, /readyz and /metrics"])

    return answer


def _live(health: Health) -> tuple[str, list[str]]:
    said = f"the loop turned {health.turn_age:.1f} s ago"
    return ("200 OK", [f"alive: {said}"]) if health.is_alive else ("503 Service Unavailable", [f"not alive: {said}"])


def _ready(health: Health) -> tuple[str, list[str]]:
    if troubles := health.troubles():
        return "503 Service Unavailable", [f"not ready: {why}" for why in troubles]
    return "200 OK", ["ready", *(f"note: {text}" for text in health.remarks())]


def _text(start: StartResponse, status: str, lines: list[str]) -> Iterable[bytes]:
    body = "".join(f"{printable(without_credentials(line), None)}\n" for line in lines).encode()
    kind = ("Content-Type", "text/plain; charset=utf-8")
    start(status, [kind, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
    return [body]


class _Handler(WSGIRequestHandler):
    timeout = SILENCE

    def log_message(self, *_: object) -> None:
        """Logs nothing: probes come every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread of its own, and few at once, so that slow clients hold up nobody."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        self._open: dict[int, socket.socket] = {}
        self._lock = Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Leaves out the look-up of the host's full name, which can take long and is of no use here."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes a connection; the oldest one is cut when there are too many."""
        with self._lock:
            oldest = self._open.pop(next(iter(self._open))) if len(self._open) >= MOST else None
            self._open[id(request)] = request
        if oldest is not None:
            _cut(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Lets a connection go."""
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Logs nothing: clients may go away."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        return
