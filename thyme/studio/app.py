"""The studio's application."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from thyme.errors import MissingExtraError, SandboxError, StoreError
from thyme.studio import api
from thyme.studio.refusal import Refusal
from thyme.studio.security import Guard
from thyme.studio.service import Studio
from thyme.studio.ui import router

logger = logging.getLogger(__name__)


def create_app(studio: Studio) -> FastAPI:
    """The application; `app.state.studio` is what its paths share."""
    app = FastAPI(openapi_url=None)  # no pages of documentation: they would load scripts from elsewhere
    app.state.studio = studio
    app.add_middleware(Guard, config=studio.config)
    app.include_router(api.router)
    app.include_router(router(studio))
    _add_errors(app)
    return app


def _add_errors(app: FastAPI) -> None:
    def refused(refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.body(), refusal.status)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        return refused(refusal)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"][1:]))
        return refused(Refusal(400, "malformed", f"{name}: {fault['msg'][:300]}"))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> JSONResponse:
        code = "too_large" if error.status_code == 413 else "not_found"
        return refused(Refusal(error.status_code, code, str(error.detail)))

    @app.exception_handler(SandboxError)
    async def no_sandbox(request: Request, error: SandboxError) -> JSONResponse:
        logger.warning("the sandbox failed: %s", error)
        return refused(Refusal(503, "sandbox", "the sandbox does not answer; try again"))

    @app.exception_handler(StoreError)
    @app.exception_handler(MissingExtraError)
    async def unreadable(request: Request, error: Exception) -> JSONResponse:
        logger.warning("%s", error)
        return refused(Refusal(503, "store", str(error)))

    @app.exception_handler(Exception)  # a bug: uvicorn logs it after this answer
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return refused(Refusal(500, "internal", "the studio failed at this; its log says how"))
