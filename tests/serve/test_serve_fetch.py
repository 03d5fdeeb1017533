"""Pictures that are named by URL: fetched where that is allowed, and never from a private network by mistake."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from agent_serving import ANSWER, encoded, error_of, served, user

from thyme.config.serve import ServeConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import ImageError
from thyme.serve.fetch import fetch, is_public

PICTURE = encoded()
REPLIES = {
    "/a.png": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PICTURE,
    "/elsewhere": b"HTTP/1.1 302 Found\r\nlocation: /a.png\r\nconnection: close\r\n\r\n",
    "/none": b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    "/long": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 200_000,
    "/page": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>",
    "/garbage": b"SSH-2.0-x\r\n",
    "/slow": b"",
}


@contextlib.contextmanager
def web(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """A web server in threads: its address, and the heads of the requests that it got."""
    heads: list[str] = []
    over = threading.Event()

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                head = "".join(line.decode() for line in itertools.takewhile(b"\r\n".__ne__, self.rfile))
            except ssl.SSLError:
                head = ""
            if not head:
                return  # the client has given up already, or does not like the certificate
            heads.append(head)
            if head.startswith("GET /slow"):
                over.wait(20)
            with contextlib.suppress(ConnectionError):
                self.wfile.write(REPLIES[head.split()[1]])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", heads
        finally:
            over.set()
            server.shutdown()
            thread.join()


def config(*hosts: str, fetch_s: float = 20.0) -> ServeConfig:
    return ServeConfig.model_validate({"allow_http_images": True, "image_hosts": hosts, "fetch_s": fetch_s})


async def test_picture_of_a_listed_host_is_answered() -> None:
    settings = {"allow_http_images": True, "image_hosts": ["127.0.0.1"]}
    with web() as (address, heads):
        async with served(ScriptedEngine([ANSWER]), **settings) as server:
            part = {"type": "image_url", "image_url": {"url": f"http://{address}/a.png"}}
            reply = await server.chat(user(part, "What?"), thyme={"trajectory": True})
            assert reply.json()["thyme"]["trajectory"]["problem"]["images"][0]["width"] == 40
            assert f"host: {address}\r\n" in heads[0].lower()
            part["image_url"]["url"] = f"http://{address}/page"
            refused = await server.chat(user(part, "What?"))
            assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/elsewhere", "redirects do not count"),
        ("/none", "status 404"),
        ("/long", "longer than"),
        ("/garbage", "could not be fetched"),
    ],
)
async def test_what_is_not_a_plain_answer_is_an_error(path: str, words: str) -> None:
    with web() as (address, heads):
        with pytest.raises(ImageError, match=words):
            await fetch(f"http://{address}{path}", config("127.0.0.1"), 100_000)
        assert len(heads) == 1


async def test_slow_host() -> None:
    with web() as (address, _), pytest.raises(ImageError, match=r"longer than 0\.1 s"):
        await fetch(f"http://{address}/slow", config("127.0.0.1", fetch_s=0.1), 1000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "0x7f.1"])
async def test_this_machine_is_not_asked(host: str) -> None:
    """However it is written; nothing of the request reaches it."""
    with web() as (address, heads):
        port = address.partition(":")[2]
        with pytest.raises(ImageError, match=r"private network|could not be fetched"):
            await fetch(f"http://{host}:{port}/a.png", config(), 100_000)
        assert heads == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_certificate_is_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to an address, and still the other side must prove that it is the host that was named."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=images.example"
    names = ["-addext", "subjectAltName=DNS:images.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr("thyme.serve.fetch.httpx.AsyncClient", functools.partial(httpx.AsyncClient, verify=trusting))

    async def here(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", here)
    with web(context) as (address, heads):
        port = address.partition(":")[2]
        url = f"https://images.example:{port}/a.png"
        assert await fetch(url, config("images.example"), 100_000) == PICTURE
        assert f"host: images.example:{port}\r\n" in heads[0].lower()
        with pytest.raises(ImageError, match="not valid for 'other"):
            await fetch(f"https://other.example:{port}/a.png", config("other.example"), 100_000)
        assert len(heads) == 1


async def test_only_listed_hosts() -> None:
    with web() as (address, heads):
        for url in (f"http://{address}/a.png", "http://images.example@127.0.0.1/a.png"):
            with pytest.raises(ImageError, match=r"from images\.example only|no user name"):
                await fetch(url, config("images.example"), 100_000)
        assert heads == []


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "http://[::1", "http://a b/", "http://" + "a" * 300 + ".example/"]
)
async def test_no_url(url: str) -> None:
    with pytest.raises(ImageError):
        await fetch(url, config(), 1000)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:0a00:0001::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("::127.0.0.1", False),
        ("fec0::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public
