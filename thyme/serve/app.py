"""The agent server's paths."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from thyme.config.serve import ServeConfig
from thyme.engines.base import Engine
from thyme.hosting import Address
from thyme.sandbox.base import Sandbox
from thyme.serve.chat import Chat, unknown_model
from thyme.serve.guard import REQUEST_ID, Guard
from thyme.serve.refusal import Refusal, misaddressed
from thyme.serve.runtime import AgentRuntime
from thyme.serve.streaming import internal_error


def create_app(engine: Engine, sandbox: Sandbox, config: ServeConfig) -> FastAPI:
    """The application; `app.state.runtime` is its `AgentRuntime`. The caller owns engine and sandbox.

    Raises:
        ConfigError: The prompts cannot be read.
    """
    app = FastAPI(openapi_url=None)  # no pages of documentation: they would load scripts from elsewhere
    runtime = app.state.runtime = AgentRuntime(engine, sandbox, config)
    _add_health(app, runtime)
    _add_models(app, runtime)
    _add_errors(app, runtime)
    app.post("/v1/chat/completions")(Chat(runtime).reply)
    if config.ui:
        from thyme.serve.ui import router

        app.include_router(router(runtime))
    app.add_middleware(Guard, runtime=runtime, only_loopback=Address(config.host).is_private)
    if config.cors_origins:  # added last, so it stands before the guard: a browser asks without a key what it may ask
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID],
        )
    return app


def _add_health(app: FastAPI, runtime: AgentRuntime) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        answer: dict[str, Any] = {
            "status": "draining" if runtime.draining else "ready",
            "model": runtime.model_name,
            "isolation": runtime.sandbox.isolation,
        }
        return JSONResponse(answer, status_code=503 if runtime.draining else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(runtime.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_models(app: FastAPI, runtime: AgentRuntime) -> None:
    started = int(time.time())

    def model() -> dict[str, Any]:
        return {"id": runtime.model_name, "object": "model", "created": started, "owned_by": "thyme"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model()]}

    @app.get("/v1/models/{name:path}")
    async def one(name: str) -> dict[str, Any]:
        if name != runtime.model_name:
            raise unknown_model(name, runtime.model_name)
        return model()


def _add_errors(app: FastAPI, runtime: AgentRuntime) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        runtime.metrics.refused.labels(refusal.code).inc()
        return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers())

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        return await refused(request, misaddressed(error))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return await refused(request, Refusal(error.status_code, message, code="not_found"))

    @app.exception_handler(Exception)  # a bug: uvicorn logs it after this answer
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return await refused(request, internal_error())
