"""The agent server's paths."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from thyme.config.serve import ServeConfig
from thyme.engines.base import Engine
from thyme.sandbox.base import Sandbox
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import AgentRuntime


def create_app(engine: Engine, sandbox: Sandbox, config: ServeConfig) -> FastAPI:
    """The application; `app.state.runtime` is its `AgentRuntime`. The caller owns engine and sandbox.

    Raises:
        ConfigError: The prompts cannot be read.
    """
    app = FastAPI(openapi_url=None)  # no pages of documentation: they would load scripts from elsewhere
    runtime = app.state.runtime = AgentRuntime(engine, sandbox, config)
    _add_health(app, runtime)
    _add_errors(app, runtime)
    if config.ui:
        from thyme.serve.ui import router

        app.include_router(router(runtime))
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


def _add_errors(app: FastAPI, runtime: AgentRuntime) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        runtime.metrics.refused.labels(refusal.code).inc()
        return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers())
