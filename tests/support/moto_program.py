"""moto's server, one request at a time: `python -m tests.support.moto_program PORT`.

moto looks and then writes, with nothing that would keep a second thread out in between: of two who create one secret, or move one label,
both may win. AWS does each of these as one, so here they stand in a line.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

_one = threading.Lock()


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Nobody reads it."""


def main() -> None:
    """Serve on loopback until killed."""
    moto = DomainDispatcherApplication(create_backend_app)

    def serve(environ: Any, start_response: Any) -> Iterable[bytes]:
        with _one:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True, request_handler=_QuietHandler)


if __name__ == "__main__":
    main()
