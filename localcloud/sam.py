"""`sam build` and `sam deploy` against the local cloud, with the very template that goes to AWS."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.bootstrap import LOCAL, clean_environment, python_of
from localcloud.progress import run_logged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REGION = "us-east-1"
ARTIFACTS_BUCKET = "localcloud-artifacts"
SOURCES = ("template.yaml", "samconfig.toml", "functions", "layers", "migrations")
FORGOTTEN = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def aws_environment(endpoint_url: str, temporary: Path) -> dict[str, str]:
    """The environment of a program that shall reach the local cloud, and never the user's AWS account."""
    environment = {
        name: value
        for name, value in clean_environment(os.environ).items()
        if not name.startswith(("AWS_", "SAM_CLI_"))
    }
    # `sam build` runs the python3.13 that it finds, and wants pip with it.
    path = f"{python_of('dev').parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return environment | {
        "PATH": path,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, ["127.0.0.1", "localhost", environment.get("NO_PROXY")])),
        "TMPDIR": str(temporary),  # the SAM CLI does not clear up
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",
    }


def config(project: Path, environment: str) -> dict[str, Any]:
    """Read what samconfig.toml says for `sam deploy` in one of its environments."""
    document = tomllib.loads((project / "samconfig.toml").read_text())
    parameters: dict[str, Any] = document.get(environment, {}).get("deploy", {}).get("parameters", {})
    return parameters


def configured_overrides(project: Path, environment: str = "local") -> dict[str, str]:
    """The parameter values of an environment: giving some on the command line would hide them."""
    overrides = config(project, environment).get("parameter_overrides", [])
    if isinstance(overrides, str):
        overrides = overrides.split()
    pairs = (entry.partition("=") for entry in overrides)
    return {name: value.strip('"') for name, _, value in pairs}


def host_architecture() -> str:
    """Lambda's name for this machine's processor: functions run on it as they are."""
    return "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


def source_files(project: Path) -> Iterator[Path]:
    """Everything that a deploy depends on."""
    for name in SOURCES:
        top = project / name
        if top.is_file():
            yield top
            continue
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(set(folders) - FORGOTTEN)
            yield from (Path(folder) / file for file in sorted(files) if not file.endswith(".pyc"))


def fingerprint(project: Path, parameters: Mapping[str, str]) -> str:
    """A value that changes when a deploy would."""
    digest = hashlib.sha256(repr(sorted(parameters.items())).encode())
    for file in source_files(project):
        digest.update(str(file.relative_to(project)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def release_overrides(project: Path, environment: str) -> list[str]:
    """The parameter values of an environment, with a `Release` that changes when the deployed thing does."""
    values = configured_overrides(project, environment)
    values["Release"] = fingerprint(project, values)
    return [f"{name}={value}" for name, value in values.items()]


def build(project: Path, state_dir: Path, log: Path, *, in_container: bool = False) -> Path:
    """Build the functions and the layer; the built template.

    One cache serves all clouds of a checkout, so a build is seconds unless the pins changed; each cloud then
    gets a copy, since the next build overwrites.
    """
    shared = LOCAL / "sam" / project.name
    shared.mkdir(parents=True, exist_ok=True)
    command = [str(python_of("sam").parent / "sam"), "build", "--cached", "--parallel"]
    command += ["--template-file", str(project / "template.yaml")]
    command += ["--build-dir", str(shared / "build"), "--cache-dir", str(shared / "cache")]
    command += ["--parameter-overrides", f"Architecture={host_architecture()}"]
    if in_container:
        command.append("--use-container")
    target = state_dir / "build"
    temporary = state_dir / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_logged(
            command, log, env=aws_environment("", temporary), cwd=shared
        )  # it leaves an .aws-sam where it runs
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(shared / "build", target, symlinks=True)
    # Shipped compiled, a function starts in two thirds of the time; times of files do not survive a ZIP, so
    # the compiled files must not depend on them.
    compiling = [str(python_of("dev")), "-m", "compileall", "-q", "-j", "0"]
    compiling += ["--invalidation-mode", "unchecked-hash", str(target)]
    run_logged(compiling, log, env=aws_environment("", temporary), cwd=target)
    return target / "template.yaml"


def deploy(
    project: Path, template: Path, log: Path, *, endpoint_url: str, parameters: Mapping[str, str]
) -> None:
    """Deploy a built template to the local cloud."""
    command = [str(python_of("sam").parent / "sam"), "deploy", "--config-env", "local"]
    command += ["--config-file", str(project / "samconfig.toml"), "--template-file", str(template)]
    command += ["--region", REGION, "--s3-bucket", ARTIFACTS_BUCKET]
    command += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--parameter-overrides"]
    for name, value in parameters.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        command.append(f'{name}="{escaped}"')
    run_logged(command, log, env=aws_environment(endpoint_url, log.parent / "tmp"), cwd=project)
