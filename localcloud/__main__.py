"""The command behind `make up`, `down`, `status`, `logs`, `migrate`, `key`, `redrive` and `doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from localcloud import docker, doctor, sam
from localcloud.bootstrap import ROOT
from localcloud.cloud import DEFAULT_STATE, CloudError, down, invoke, is_healthy, load_state, up
from localcloud.dotenv import EnvFileError, read_env_file
from localcloud.postgres import PostgresError
from localcloud.progress import CommandError, fail, say
from localcloud.supervisor import Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINES_BEFORE_FOLLOWING = 20
FOLLOW_SECONDS = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are sentences, not tracebacks."""
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder of the cloud")
        one.set_defaults(run=run)
        return one

    start = command("up", run_up, "start the local cloud, or bring a running one up to date")
    start.add_argument("--env-file", type=Path, default=ROOT / ".env")
    start.add_argument("--backend", choices=["process", "docker"], default="process")
    stop = command("down", run_down, "end the local cloud and delete its data")
    stop.add_argument("--backend", choices=["process", "docker"], default="process")
    command("status", run_status, "show what runs and where")
    logs = command("logs", run_logs, "follow what the functions print")
    logs.add_argument("--function", default="", help="part of a function's name")
    logs.add_argument("--no-follow", action="store_true", help="print what is there and end")
    migrate = command("migrate", run_migrate, "bring the database schema up to date")
    migrate.add_argument("--config-env", help="of a stack on AWS, as samconfig.toml names it")
    key = command("key", run_key, "make an API key and print it, the only time it is shown")
    key.add_argument("--config-env", help="for a stack on AWS, as samconfig.toml names it")
    key.add_argument("--name", required=True, help="who will use it")
    key.add_argument("--scopes", default="admin", help="read, write or admin; separated by commas")
    key.add_argument("--days", type=int, help="how long it works; without: until it is revoked")

    redrive = command("redrive", run_redrive, "put parked messages back into the ingest queue")
    redrive.add_argument("--config-env", help="of a stack on AWS, as samconfig.toml names it")

    examine = command("doctor", run_doctor, "compare what is stored with what is recorded")
    examine.add_argument("--config-env", help="of a stack on AWS, as samconfig.toml names it")
    examine.add_argument("--fix", action="store_true", help="repair what is safe")
    examine.add_argument("--deep", action="store_true", help="read every byte again")
    examine.add_argument("--json", action="store_true", help="print the report as JSON")

    release = command("release", run_release, "print the parameter values of a deploy to AWS")
    release.add_argument("--config-env", required=True, help="as samconfig.toml names it")

    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (CloudError, CommandError, EnvFileError, PostgresError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return fail("interrupted")


def run_up(arguments: argparse.Namespace) -> int:
    if not arguments.env_file.exists() and arguments.env_file.resolve() != ROOT / ".env":
        raise CloudError(f"there is no file {arguments.env_file}")
    settings = read_env_file(arguments.env_file) if arguments.env_file.exists() else {}
    if os.environ.get("DATABASE_URL"):
        settings["DATABASE_URL"] = os.environ["DATABASE_URL"]
    say(f"Local cloud in {arguments.state}:")
    if arguments.backend == "docker":
        cloud = docker.up(arguments.state, settings)
    else:
        cloud = up(arguments.state, settings=settings)
    say(
        f"\nAPI:  {cloud.api_url}\nTry:  curl {cloud.api_url}/v1/health\n"
        "Key:  make key NAME=me     (every other route needs one)\n"
        f"Drop: s3://{cloud.outputs['IncomingBucketName']}/drops/camworks/ at {cloud.endpoint_url}\n"
        "End:  make down"
    )
    return 0


def run_down(arguments: argparse.Namespace) -> int:
    if arguments.backend == "docker":
        docker.down()
        say("Containers and their volumes are removed.")
    elif down(arguments.state):
        say("Local cloud ended and its data deleted (a database that DATABASE_URL names is left alone).")
    else:
        say("No local cloud was running.")
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    servers = Servers.load(arguments.state)
    if servers is None:
        say("No local cloud is running: `make up` starts one.")
        return 1
    if servers.error:
        say(f"The local cloud ended: {servers.error}.\n`make up` starts a new one.")
        return 1
    healthy = is_healthy(servers.endpoint_url)
    urls = {"localstack": servers.endpoint_url, "postgres": servers.database_url.partition("@")[2]}
    say(f"{'PART':<12}{'PID':>8}  {'STATE':<10}WHERE")
    for name, process in servers.processes().items():
        state = "runs" if process.is_running() else "dead"
        if name == "localstack" and state == "runs":
            state = "healthy" if healthy else "silent"
        say(f"{name:<12}{process.pid:>8}  {state:<10}{urls.get(name, '')}")
    if healthy:
        cloud = load_state(arguments.state)
        say(f"{'api':<12}{'':>8}  {'deployed':<10}{cloud.api_url}")
        say(f"{'bucket':<12}{'':>8}  {'':<10}{cloud.outputs['IncomingBucketName']}")
    return 0 if healthy else 1


def run_logs(arguments: argparse.Namespace) -> int:
    cloud = load_state(arguments.state)
    folder = arguments.state / "logs"
    functions = {
        output.removesuffix("FunctionName").casefold(): name
        for output, name in cloud.outputs.items()
        if output.endswith("FunctionName")
    }
    wanted = arguments.function.casefold()
    chosen = {name for short, name in functions.items() if wanted in short}
    if not chosen:
        raise CloudError(f"no function is called {arguments.function}: there are {', '.join(functions)}")
    read: dict[Path, int] = {}
    first = True
    while True:
        for file in sorted(folder.glob("*.log")):
            if file.stem not in chosen:
                continue
            with file.open("rb") as log:
                log.seek(read.get(file, 0))
                content = log.read()
            # A line that is still being written waits for its end.
            complete = content[: content.rfind(b"\n") + 1]
            read[file] = read.get(file, 0) + len(complete)
            lines = complete.decode(errors="replace").splitlines()
            for line in lines[-LINES_BEFORE_FOLLOWING:] if first else lines:
                say(f"{file.stem}: {line}")
        if arguments.no_follow:
            return 0
        first = False
        try:
            time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:  # how following ends
            return 0


def run_release(arguments: argparse.Namespace) -> int:
    say(" ".join(sam.release_overrides(ROOT, arguments.config_env)))
    return 0


def run_migrate(arguments: argparse.Namespace) -> int:
    outputs, client = _stack(arguments)
    say(f"Migrated: {invoke(client('lambda'), outputs['MigrateFunctionName'], {})}")
    return 0


def run_key(arguments: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {"client_name": arguments.name, "scopes": arguments.scopes.split(",")}
    if arguments.days is not None:
        wanted["days"] = arguments.days
    outputs, client = _stack(arguments)
    minted = invoke(client("lambda"), outputs["MigrateFunctionName"], {"key": wanted})
    ends = f"until {minted['expires_at']}" if minted["expires_at"] else "until it is revoked"
    what = f"For {minted['client_name']}, {'+'.join(minted['scopes'])}, {ends}"
    # Apart from the key, so that KEY=$(make -s key NAME=me) holds that and no more.
    print(f"{what}. This is the only time it is shown:", file=sys.stderr, flush=True)
    say(minted["key"])
    return 0


def run_redrive(arguments: argparse.Namespace) -> int:
    outputs, client = _stack(arguments)
    sqs = client("sqs")

    def attributes(output: str) -> dict[str, str]:
        answer = sqs.get_queue_attributes(QueueUrl=outputs[output], AttributeNames=["All"])
        found: dict[str, str] = answer["Attributes"]
        return found

    parked = attributes("ParkingLotQueueUrl")
    waiting = int(parked["ApproximateNumberOfMessages"])
    if waiting:
        sqs.start_message_move_task(
            SourceArn=parked["QueueArn"], DestinationArn=attributes("IngestQueueUrl")["QueueArn"]
        )
    say(f"{waiting} parked messages are on their way back into the ingest queue.")
    return 0


def run_doctor(arguments: argparse.Namespace) -> int:
    outputs, client = _stack(arguments)
    functions, name = client("lambda"), outputs["DoctorFunctionName"]
    report = doctor.examine(
        lambda payload: invoke(functions, name, payload), fix=arguments.fix, deep=arguments.deep
    )
    say(json.dumps(report, indent=2) if arguments.json else doctor.table(report))
    return 1 if report["error"] or report["found"] > report["fixed"] else 0


def _stack(arguments: argparse.Namespace) -> tuple[dict[str, str], Callable[[str], Any]]:
    """Return a stack's outputs, and what makes clients for its account: the local cloud's, or one on AWS."""
    if arguments.config_env is None:
        cloud = load_state(arguments.state)
        return cloud.outputs, cloud.client
    config = sam.config(ROOT, arguments.config_env)
    session = boto3.session.Session(region_name=config.get("region"), profile_name=config.get("profile"))
    make: Any = session.client
    stacks = make("cloudformation").describe_stacks(StackName=config["stack_name"])["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}
    # A function may take its five minutes, and invoking it twice is not the same as once.
    patient = Config(read_timeout=310, retries={"max_attempts": 0})
    return outputs, lambda service: make(service, config=patient)


if __name__ == "__main__":
    sys.exit(main())
