"""``thyme serve``: the agent as an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr, TypeAdapter, ValidationError

from thyme.cli import options
from thyme.cli.runtime import open_runtime
from thyme.config import Config, EngineConfig, RolloutConfig, SandboxConfig
from thyme.config.load import changed, overridden
from thyme.config.serve import ApiKey, ServeConfig
from thyme.errors import MissingExtraError, UsageError
from thyme.models import NANO

if TYPE_CHECKING:
    from thyme.serve.runtime import AgentRuntime

app = typer.Typer(add_completion=False)

API_KEY = "THYME_SERVE_API_KEY"
_SERVE, _ROLLOUT = ServeConfig(), RolloutConfig()

_ADDRESS, _LIMITS = "Address and clients", "Limits"


def _option(help: str, panel: str, **settings: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, **settings)


Host = Annotated[str, _option("Address to listen on.", _ADDRESS)]
Port = Annotated[int, _option("0 takes any that is free.", _ADDRESS, min=0, max=65535)]
KeyFile = Annotated[
    Path | None, _option(f"File with API keys, one a line; else {API_KEY} is taken.", _ADDRESS, metavar="FILE")
]
WithoutKey = Annotated[bool, typer.Option("--without-key", help="Let everybody ask.", rich_help_panel=_ADDRESS)]
CorsOrigin = Annotated[
    list[str] | None, _option("Pages elsewhere that may call the API. Repeatable.", _ADDRESS, metavar="ORIGIN")
]
Ui = Annotated[bool, typer.Option("--ui", help="Serve the page to try it, too.", rich_help_panel=_ADDRESS)]
Name = Annotated[str | None, typer.Option(help="What clients call the model; else what it is called here.")]
NoTools = Annotated[bool, typer.Option("--no-tools", help="The same prompt, with code blocked.")]
SandboxUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Run code at this `thyme sandbox serve` (token: THYME_SANDBOX_TOKEN) instead of here."
    ),
]
MaxConcurrent = Annotated[int, _option("Requests answered at once.", _LIMITS, min=1)]
MaxQueued = Annotated[int, _option("Requests that wait; more are refused.", _LIMITS, min=0)]
MaxRounds = Annotated[int, _option("Code blocks that may run for a request.", _LIMITS, min=0)]
MaxTokens = Annotated[int, _option("New tokens of a request.", _LIMITS, min=1)]
MaxRoundTokens = Annotated[int, _option("New tokens between two runs of code.", _LIMITS, min=1)]
MinTokens = Annotated[
    int, _option("Raise a smaller max_tokens of a request to this, so that it can think.", _LIMITS, min=0)
]
MaxBody = Annotated[int, _option("MiB of one request.", _LIMITS, min=1, metavar="MIB")]
MaxImages = Annotated[int, _option("Images of one request.", _LIMITS, min=0)]
MaxPixels = Annotated[int, _option("Largest image that is read, pixels.", _LIMITS, min=1)]
AllowHttpImages = Annotated[
    bool, typer.Option("--allow-http-images", help="Fetch images that are named by URL.", rich_help_panel=_LIMITS)
]
ImageHost = Annotated[
    list[str] | None,
    _option("Fetch images from this host only, also on a private network. Repeatable.", _LIMITS, metavar="HOST"),
]
QueueS = Annotated[float, _option("Seconds a request waits for a place.", _LIMITS, min=0.01)]
RequestS = Annotated[float, _option("Seconds one request may take.", _LIMITS, min=0.01)]
KeepAliveS = Annotated[float, _option("Seconds of silence before a stream says it is alive.", _LIMITS, min=0.01)]
DrainS = Annotated[float, _option("Seconds requests may go on after SIGTERM.", _LIMITS, min=0)]


@app.command()
def serve(
    model: options.Model = NANO,
    name: Name = None,
    host: Host = _SERVE.host,
    port: Port = _SERVE.port,
    api_key_file: KeyFile = None,
    without_key: WithoutKey = False,
    cors_origin: CorsOrigin = None,
    ui: Ui = False,
    no_tools: NoTools = False,
    prompts: options.Prompts = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    isolation: options.Isolation = "best",
    sandbox_url: SandboxUrl = None,
    max_concurrent: MaxConcurrent = _SERVE.max_concurrent,
    max_queued: MaxQueued = _SERVE.max_queued,
    max_rounds: MaxRounds = _ROLLOUT.max_rounds,
    max_tokens: MaxTokens = _ROLLOUT.max_tokens,
    max_round_tokens: MaxRoundTokens = _ROLLOUT.max_round_tokens,
    min_tokens: MinTokens = _SERVE.min_tokens,
    max_body: MaxBody = _SERVE.max_body_mb,
    max_images: MaxImages = _SERVE.max_images,
    max_pixels: MaxPixels = _SERVE.max_image_pixels,
    allow_http_images: AllowHttpImages = False,
    image_host: ImageHost = None,
    queue_s: QueueS = _SERVE.queue_s,
    request_s: RequestS = _SERVE.request_s,
    keep_alive_s: KeepAliveS = _SERVE.keep_alive_s,
    drain_s: DrainS = _SERVE.drain_s,
    settings: options.Set = None,
) -> None:
    """Serve a model that thinks with images to any OpenAI client, until SIGTERM or Ctrl-C.

    Example: thyme serve --model Qwen/Qwen2.5-VL-7B-Instruct --port 8000

    Then ask POST http://127.0.0.1:8000/v1/chat/completions. See docs/serve.md.
    """
    serving = changed(ServeConfig(), {
        "host": host, "port": port, "api_keys": read_keys(api_key_file), "model_name": name, "ui": ui,
        "cors_origins": cors_origin or (), "prompts": prompts, "min_tokens": min_tokens, "max_body_mb": max_body,
        "max_images": max_images, "max_image_pixels": max_pixels, "image_hosts": image_host or (),
        "allow_http_images": allow_http_images or bool(image_host), "max_concurrent": max_concurrent,
        "max_queued": max_queued, "queue_s": queue_s, "request_s": request_s, "keep_alive_s": keep_alive_s,
        "drain_s": drain_s,
    }, "the settings")  # fmt: skip
    rollout = RolloutConfig(
        tools=not no_tools, max_rounds=max_rounds, max_tokens=max_tokens, max_round_tokens=max_round_tokens
    )
    engine = EngineConfig(model=model, device=device, dtype=dtype, max_batch=max_concurrent)
    sessions = {} if sandbox_url else {"max_sessions": max(max_concurrent, SandboxConfig().max_sessions)}
    sandbox = SandboxConfig.model_validate({"isolation": isolation, **sessions})
    run(overridden(ServeRun(engine=engine, sandbox=sandbox, rollout=rollout, serve=serving), settings or []),
        sandbox_url, without_key=without_key)  # fmt: skip


class ServeRun(Config):
    """All that ``thyme serve`` can set; the tables of ``--set`` have the names of these fields."""

    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    rollout: RolloutConfig = RolloutConfig()
    serve: ServeConfig = ServeConfig()


def run(config: ServeRun, sandbox_url: str | None, *, without_key: bool) -> None:
    """Open engine and sandbox, and serve until a signal.

    Raises:
        UsageError: The address is open to others and there is no key, or it cannot be had.
        MissingExtraError: The extra is not installed.
    """
    try:
        from thyme.serve.run import require_keys
        from thyme.serve.run import serve as run_server
    except ImportError as error:
        raise MissingExtraError("thyme serve", "serve") from error
    if "rollout" in config.serve.model_fields_set:
        raise UsageError("how requests are answered is set by rollout.KEY=VALUE, not by serve.rollout.KEY=VALUE")
    serving = config.serve.model_copy(update={"rollout": config.rollout})
    require_keys(serving, without_key)
    runtime = open_runtime(config.engine.model, config.engine, config.sandbox, sandbox_url)
    asyncio.run(run_server(runtime, serving, _announce))


def read_keys(file: Path | None) -> tuple[SecretStr, ...]:
    """The API keys out of a file, or else the one in the environment.

    Raises:
        UsageError: The file cannot be read, is empty, or holds what cannot be a key.
    """
    if file is None:
        key = os.environ.get(API_KEY)
        return (_key(key, API_KEY),) if key else ()
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the key file {file} cannot be read: {reason}") from error
    keys = tuple(
        _key(line, f"{file}, line {number}")
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    )
    if not keys:
        raise UsageError(f"the key file {file} is empty; write keys into it, one a line, e.g. openssl rand -hex 32")
    return keys


def _key(text: str, where: str) -> SecretStr:
    try:
        key: SecretStr = TypeAdapter(ApiKey).validate_python(text)
    except ValidationError as error:  # its own words would show the key
        raise UsageError(f"{where}: {error.errors()[0]['ctx']['error']}") from None
    return key


def _announce(url: str, runtime: AgentRuntime) -> None:
    open_to = "keys needed" if runtime.keys.required else "no keys"
    page = f"; page: {url}/" if runtime.config.ui else ""
    typer.echo(
        f"thyme: serving {runtime.model_name} at {url}/v1, isolation {runtime.sandbox.isolation}, {open_to}{page}",
        err=True,
    )
