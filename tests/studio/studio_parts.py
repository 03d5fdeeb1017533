"""A build with real records, and a studio that serves it, for tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import web_server
from drafted import BOX, Round, cropped, finished, ready
from fastapi import FastAPI

from thyme.config.data import DataRecipe
from thyme.config.sandbox import SandboxConfig
from thyme.config.studio import StudioConfig
from thyme.data.drafts import Draft
from thyme.data.factory.folder import RECORDS, REJECTED, chunk_file, image_ids, stored
from thyme.data.factory.journal import Outcome
from thyme.data.factory.manifest import Manifest, write_manifest
from thyme.data.factory.shard import write_shard
from thyme.data.stages.base import Context
from thyme.data.stages.finish import finish
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.studio.app import create_app
from thyme.studio.builds import Builds, import_records
from thyme.studio.database import Database, beside
from thyme.studio.service import Studio

RECIPE = DataRecipe.model_validate(
    {
        "count": 100,
        "sources": {"photos": {"path": "photos"}},
        "scenarios": {"crop": 1},
        "teachers": {"one": {"model": "http://localhost:1/v1#hand"}},
    }
)


def draft(index: int, *, question: str = "", conclusion: str = "It says KX.", answer: str = "KX") -> Draft:
    """A finished record of the scenario ``crop``, images loaded; `index` is its place in the build."""
    made = ready("crop", seed=index)
    asked = made.problem.model_copy(update={"question": question or f"What does sign {index} say?"})
    left, top, right, bottom = BOX
    around = (left - 30, top - 20, right + 30, bottom + 20)
    made = made.model_copy(update={"id": f"photos-{index:08d}-crop", "problem": asked, "origin": asked})
    return trajectory(finished(made, [cropped(made, around)], conclusion, answer))


def no_code(index: int, *, conclusion: str = "The sign is large.", answer: str = "KX") -> Draft:
    """A finished record without a block."""
    made = ready("no_code", seed=index)
    made = made.model_copy(update={"id": f"photos-{index:08d}-no_code"})
    return trajectory(finished(made, [], conclusion, answer))


def printed(index: int, stdout: str, *, question: str = "Q?", conclusion: str = "c", code: str = "print(1)") -> Draft:
    """A finished record whose block printed something."""
    made = ready("crop", seed=index)
    asked = made.problem.model_copy(update={"question": question})
    made = made.model_copy(update={"id": f"photos-{index:08d}-crop", "problem": asked, "origin": asked})
    return trajectory(finished(made, [Round("I look.", code, stdout=stdout)], conclusion, "KX"))


def trajectory(made: Draft) -> Draft:
    """With the record that is trained on."""
    context = Context(RECIPE, None, PromptSet.load(), None)  # type: ignore[arg-type]  # neither sandbox nor teachers
    return made.model_copy(update={"trajectory": finish(made, context)})


def write_build(out: Path, drafts: list[Draft]) -> Path:
    """A finished build of one chunk."""
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, Manifest(recipe=RECIPE, count=len(drafts), state="finished", kept=len(drafts)))
    kept = []
    for one in drafts:
        record = stored(out, one)
        kept.append(Outcome.of(int(re.findall(r"\d{8}", one.id)[0]), record, image_ids(record)))
    write_shard(chunk_file(out, REJECTED, 0), [], kept=False)
    write_shard(chunk_file(out, RECORDS, 0), kept, kept=True)
    return out


@dataclass
class Served:
    """A studio that serves."""

    url: str = ""
    studio: Studio = field(default=None)  # type: ignore[assignment]  # there before it is handed out
    clients: list[Client] = field(default_factory=list)

    def link(self, name: str = "", *, lead: bool = False) -> str:
        """An invitation: where a browser goes."""
        return f"{self.url}/join#{self.studio.accounts.invite(name, lead=lead)}"

    def client(self, name: str, *, lead: bool = False) -> Client:
        """Somebody who has come in."""
        client = Client(self.url)
        self.clients.append(client)
        token = self.link(name, lead=lead).partition("#")[2]
        client.person = client.post("/api/join", token=token)["person"]
        return client


def http_client(url: str, headers: dict[str, str] | None = None) -> httpx.Client:
    """Asks a server in clear text; to read all certificates that are trusted would take longer than many requests."""
    return httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)


class Client:
    """A browser without pages."""

    def __init__(self, url: str) -> None:
        self.person: dict[str, Any] = {}
        self.http = http_client(url, {"origin": url})

    def get(self, path: str, **query: Any) -> Any:
        return self.answer(self.http.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        return self.answer(self.send("POST", path, body))

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The bare answer."""
        return self.http.request(method, path, json=body, headers={"x-csrf-token": self.person.get("csrf", "")})

    @staticmethod
    def answer(response: httpx.Response) -> Any:
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return response.json()


@dataclass(frozen=True)
class Running:
    """``thyme studio serve`` in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    told: str
    """The first line that it said."""

    def link(self) -> str:
        """The invitation of who leads: what the first start of a studio says next."""
        assert self.process.stderr is not None
        return re.findall(r"\S+/join#\S+", self.process.stderr.readline())[0]

    def end(self) -> int:
        """End it as a service manager does; its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Running]:
    """Serve a build or a collection by the real command, on a free port, until the context ends."""
    command = [sys.executable, "-m", "thyme", "studio", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            told = server.stderr.readline()
            urls = re.findall(r"http://\S+(?=;)", told)
            assert urls, f"the studio did not start: {told}{server.stderr.read()}"
            yield Running(server, urls[0], told)
        finally:
            server.kill()


@contextmanager
def serving(out: Path, config: StudioConfig | None = None, *, url: str | None = None) -> Iterator[Served]:
    """Serve a build's records until the context ends, on a database that is beside it or at `url`."""
    settings = config or StudioConfig()

    @asynccontextmanager
    async def made() -> AsyncIterator[Studio]:
        async with open_sandbox(SandboxConfig(pool=1)) as sandbox:
            yield opened(out, settings, sandbox, url=url)

    with serving_studio(made) as served:
        yield served


@contextmanager
def serving_studio(made_studio: Callable[[], AbstractAsyncContextManager[Studio]], port: int = 0) -> Iterator[Served]:
    """Serve a studio until the context ends."""
    served = Served()

    @asynccontextmanager
    async def opened_app() -> AsyncIterator[FastAPI]:
        async with made_studio() as served.studio:
            yield create_app(served.studio)
            served.studio.database.close()

    with web_server.serving(opened_app, port, proxy_headers=False) as server:
        served.url = server.url
        try:
            yield served
        finally:
            for client in served.clients:  # a server that ends would wait for their connections
                client.http.close()


def opened(out: Path, config: StudioConfig, sandbox: Sandbox, *, url: str | None = None) -> Studio:
    """A studio with a build's records imported."""
    database, builds = Database(url or beside(out)), Builds([out])
    import_records(database, builds, out.name, double=config.double)
    return Studio(config, database, builds, sandbox)
