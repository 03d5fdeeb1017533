"""Where a server listens: sockets that are private, left behind by nobody, and cut off where nobody reads."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

import pytest

from thyme.errors import UsageError
from thyme.hosting import Address, listening


def test_unix_socket_is_private_and_left_behind_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # what a server that was killed leaves
    with listening(Address(unix=path)) as (_, url):
        assert url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(UsageError, match="a server listens on"), listening(Address(unix=path)):
            pass
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel does not watch over unread data")
def test_who_never_reads_is_cut_off() -> None:
    """Else what was sent to it would stay in memory for as long as it likes."""
    with listening(Address(port=0), unread_s=0.5) as (opened, _), socket.create_connection(opened.getsockname()):
        connection, _ = opened.accept()
        with connection:
            connection.settimeout(20)
            with pytest.raises(TimeoutError) as caught:
                connection.sendall(bytes(64 << 20))
        assert caught.value.errno == errno.ETIMEDOUT, "it was this test that gave up"


def test_port_that_is_taken() -> None:
    with listening(Address(port=0)) as (opened, _):
        port = opened.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"), listening(Address(port=port)):
            pass
