"""The same local cloud with Docker: compose gives the services, build, deploy and migration are the same.

Where this was written there was no Docker engine: docker-compose.yml is validated, this path was never run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from localcloud.bootstrap import ROOT
from localcloud.cloud import Cloud, CloudError, Launch
from localcloud.progress import step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# As docker-compose.yml has them: seen from this machine, and from a container.
ENDPOINT_URL = "http://127.0.0.1:4566"
ENDPOINT_URL_INSIDE = "http://localstack:4566"
DATABASE_URL_INSIDE = "postgresql://veripost:veripost@postgres:5432/veripost"


def up(state_dir: Path, settings: Mapping[str, str]) -> Cloud:
    """Start the containers and deploy to them."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with step("starting the containers"):
        compose("up", "--detach", "--build", "--wait")
    launch = Launch(state_dir.absolute(), ROOT, dict(settings), {}, fsync=True, leashed=False)
    database_url = settings.get("DATABASE_URL") or DATABASE_URL_INSIDE
    parameters = launch.wanted_parameters(ENDPOINT_URL, database_url)
    parameters |= {"S3EndpointUrl": ENDPOINT_URL_INSIDE, "S3PublicEndpointUrl": ENDPOINT_URL}
    # Functions run in Linux containers, so on another system their packages must be chosen in one.
    template = launch.build(in_container=sys.platform != "linux")
    return launch.deploy(template, ENDPOINT_URL, database_url, parameters)


def down() -> None:
    """Remove the containers and their volumes: LocalStack forgets all it held, so Postgres must, too."""
    compose("down", "--volumes")


def compose(*arguments: str) -> None:
    """Run `docker compose`, its own progress included."""
    try:
        done = subprocess.run(["docker", "compose", *arguments], cwd=ROOT, env=os.environ, check=False)
    except FileNotFoundError as error:
        raise CloudError("there is no docker command here: `make up` without BACKEND needs none") from error
    if done.returncode != 0:
        raise CloudError(f"`docker compose {' '.join(arguments)}` exited with {done.returncode}")
