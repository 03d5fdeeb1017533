"""The server's paths."""

from __future__ import annotations

import asyncio
import base64
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from thyme import __version__
from thyme.config.sandbox import SandboxConfig
from thyme.config.sandbox_server import SandboxServerConfig
from thyme.errors import ImageError, SandboxDiedError, SandboxError
from thyme.sandbox import protocol
from thyme.sandbox.protocol import NewRun, NewSession
from thyme.sandbox.server.bodies import read_message
from thyme.sandbox.server.brokers import Brokers
from thyme.sandbox.server.inputs import Inputs
from thyme.sandbox.server.metrics import CONTENT_TYPE, Metrics
from thyme.sandbox.server.refusal import Refusal
from thyme.sandbox.server.sessions import Sessions
from thyme.types import Execution


@dataclass(frozen=True)
class Service:
    """What the paths work with."""

    brokers: Brokers
    sessions: Sessions
    inputs: Inputs
    metrics: Metrics
    limits: SandboxServerConfig
    uploads: asyncio.Semaphore

    @classmethod
    @asynccontextmanager
    async def start(cls, config: SandboxConfig, limits: SandboxServerConfig) -> AsyncIterator[Service]:
        """Start the sandbox; every process of it is gone when the context ends.

        Raises:
            IsolationError: The level asked for is not to be had here.
        """
        brokers, metrics = await Brokers.start(config, limits.max_settings), Metrics()
        sessions = Sessions(brokers, limits, metrics)
        inputs = Inputs(limits, config.inputs_mb << 20)
        expiry = asyncio.create_task(sessions.expire())
        try:
            yield cls(brokers, sessions, inputs, metrics, limits, asyncio.Semaphore(limits.uploads))
        finally:
            expiry.cancel()
            await sessions.aclose()
            await brokers.aclose()

    def hello(self) -> protocol.Hello:
        """What the server says about itself."""
        return protocol.Hello.model_validate(
            {
                "protocol": protocol.PROTOCOL,
                "version": __version__,
                "instance": self.sessions.instance,
                "isolation": self.brokers.own.isolation,
                "max_body": self.limits.max_body_mb << 20,
            }
        )

    async def open(self, request: Request) -> protocol.Opened:
        """Open the session that a request asks for."""
        limits = self.limits
        async with self.sessions.place() as place:
            async with self.uploads:
                new, body = await read_message(request, NewSession, limits.max_body_mb << 20, limits.upload_s)
                images = await self.inputs.records(new.images, body)
            session = await self.sessions.open(place, new.key, images, new.seed, new.settings)
        if await request.is_disconnected():
            await self.sessions.close(session)
        return protocol.Opened.model_validate(
            {
                "session": self.sessions.id_of(session),
                "isolation": self.brokers.own.isolation,
                "timeout_s": session.config.timeout_s,
            }
        )

    async def run(self, name: str, request: Request) -> Response:
        """Run the code that a request brings."""
        session = self.sessions.find(name)
        new, _ = await read_message(request, NewRun, self.limits.max_body_mb << 20, self.limits.upload_s)
        key = new.request or secrets.token_hex(16)
        execution = await self.sessions.run(session, key, new.code)
        if request.headers.get("accept") == protocol.FRAME:
            return _framed(key, new.code, execution)
        return JSONResponse(await asyncio.to_thread(as_json, key, execution))


def _framed(request: str, sent: str, execution: Execution) -> Response:
    """An execution as a frame; pixels are packed as fast as the client takes them."""
    head = protocol.answer_head(request, sent, execution)
    if not execution.images:
        return Response(head, media_type=protocol.FRAME)

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for image in execution.images:
            for piece in protocol.pixel_chunks(image):
                yield piece

    length = len(head) + sum(map(protocol.pixel_bytes, execution.images))
    return StreamingResponse(pieces(), media_type=protocol.FRAME, headers={"content-length": str(length)})


def as_json(request: str, execution: Execution) -> dict[str, Any]:
    """An execution for clients that read JSON only: pictures as PNG in Base64."""
    images = []
    for image in execution.images:
        buffer = io.BytesIO()
        image.image.save(buffer, "PNG", compress_level=1)
        png = base64.b64encode(buffer.getvalue()).decode()
        images.append({
            "name": image.name, "mode": image.mode, "width": image.width, "height": image.height, "png": png,
        })  # fmt: skip
    outcome = {**protocol.outcome(execution), "ran": execution.ran}
    return {"request": request, **outcome, "images": images}


def make_app(service: Service) -> FastAPI:
    """The application of a service that runs."""
    app = FastAPI(openapi_url=None)  # no pages of documentation: they would load scripts from elsewhere
    _add_health(app, service)
    _add_sessions(app, service)
    _add_errors(app, service.metrics)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        draining = service.sessions.draining
        status = "draining" if draining else "ready"
        answer = {"status": status, "isolation": service.brokers.own.isolation}
        return JSONResponse(answer, status_code=503 if draining else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_sessions(app: FastAPI, service: Service) -> None:
    @app.get("/v1/server")
    async def server() -> dict[str, Any]:
        return service.hello().model_dump()

    @app.post("/v1/sessions")
    async def create(request: Request) -> Response:
        opened = await service.open(request)
        return JSONResponse(opened.model_dump(), status_code=201)

    @app.post("/v1/sessions/{name}/runs")
    async def run(name: str, request: Request) -> Response:
        return await service.run(name, request)

    @app.delete("/v1/sessions/{name}")
    async def delete(name: str) -> Response:
        await service.sessions.end(name)
        return Response(status_code=204)


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        metrics.refused.labels(refusal.code).inc()
        headers = {"retry-after": f"{refusal.retry_after_s:.0f}"} if refusal.retry_after_s is not None else {}
        if refusal.status in {408, 413}:  # the rest of the body is not worth reading
            headers["connection"] = "close"
        fault = protocol.Fault(code=refusal.code, message=refusal.message[:4000], missing=list(refusal.missing))
        return JSONResponse({"error": fault.model_dump()}, status_code=refusal.status, headers=headers)

    @app.exception_handler(ImageError)
    @app.exception_handler(SandboxError)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        code = "sandbox_died" if isinstance(error, SandboxDiedError) else "sandbox_failed"
        metrics.refused.labels(code).inc()
        fault = protocol.Fault(code=code, message=str(error)[:4000])
        return JSONResponse({"error": fault.model_dump()}, status_code=500)
