"""A Schema Registry over HTTP that knows one schema, of id 1."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

__all__ = ["http_registry"]


@contextmanager
def http_registry(schema: str, refusal: int | None = None) -> Iterator[str]:
    """Serves it on this machine, or refuses every request with a status; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == "/schemas/ids/1"
            status = refusal or (200 if known else 404)
            body = json.dumps({"schema": schema} if status == 200 else {"error_code": status, "message": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
