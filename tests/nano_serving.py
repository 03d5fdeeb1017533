"""The rule-based teacher and checker of the embedded world, served on this machine for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from thyme.nano.factory.server import Classroom, open_server


@contextmanager
def serving(classroom: Classroom) -> Iterator[str]:
    """Its address, as recipes name it."""
    server = open_server(classroom, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
