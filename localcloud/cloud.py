"""A local AWS with our template deployed to it, as one object.

with running(folder, fsync=False) as cloud:     # tests: ends with the block, and with this process
    cloud.client("s3").list_buckets()

up(); down()                                    # `make up`, `make down`: goes on after we end
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

from localcloud import sam
from localcloud.bootstrap import LOCAL, ROOT, clean_environment
from localcloud.dotenv import parameter_name, read_env_file, template_parameters, to_parameters
from localcloud.postgres import Address
from localcloud.progress import CommandError, say, step
from localcloud.supervisor import Servers, discard_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_STATE = LOCAL / "cloud"
STAGE = "api"
SECRET_NAME = "localcloud/database"  # noqa: S105 (its name)
START_SECONDS = 90
STOP_SECONDS = 45
RESTART_SECONDS = 60
LOG_LINES_OF_A_FAILURE = 30


# Those that this process started: dropping one would close its leash.
_supervisors: dict[Path, subprocess.Popen[bytes]] = {}


class CloudError(Exception):
    """The local cloud cannot do what was asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A deployed local cloud. Everything a client, a test or the demo needs to know."""

    state_dir: Path
    api_url: str
    endpoint_url: str
    database_url: str
    outputs: dict[str, str]
    """The stack's outputs, by name."""
    parameters: dict[str, str]
    """The parameter values it was deployed with."""
    fingerprint: str

    @staticmethod
    def file(state_dir: Path) -> Path:
        """Where `up` writes this down."""
        return state_dir / "state.json"

    @classmethod
    def load(cls, state_dir: Path) -> Self | None:
        """Read what the last `up` wrote."""
        try:
            fields = json.loads(cls.file(state_dir).read_text())
        except FileNotFoundError:
            return None
        return cls(**{**fields, "state_dir": Path(fields["state_dir"])})

    def save(self) -> None:
        """Write it down; it holds a password."""
        file = self.file(self.state_dir)
        file.touch(mode=0o600)
        file.write_text(json.dumps({**asdict(self), "state_dir": str(self.state_dir)}, indent=2))

    def client(self, service: str, **settings: Any) -> Any:
        """Make a boto3 client for one of the local cloud's services."""
        return client(self.endpoint_url, service, **settings)

    def invoke(self, function: str, payload: Mapping[str, Any] | None = None) -> Any:
        """Run a deployed function, by its name or by the output that holds it, and give what it returned."""
        return invoke(self.client("lambda"), self.outputs.get(function, function), payload or {})

    def mint_key(self, client_name: str, *scopes: str, **fields: Any) -> str:
        """Make an API key with these scopes and give it; `fields` are others of `POST /v1/keys`."""
        wanted = {"client_name": client_name, "scopes": scopes, **fields}
        return str(self.invoke("MigrateFunctionName", {"key": wanted})["key"])

    def restart_postgres(self) -> None:
        """Restart the database under the running cloud: every connection is lost, all data stays."""
        before = Servers.load(self.state_dir)
        if before is None or before.postgres is None:
            raise CloudError("this cloud does not run its own Postgres")
        before.supervisor.send(signal.SIGUSR1)
        deadline = time.monotonic() + RESTART_SECONDS
        while (now := Servers.load(self.state_dir)) is not None and now.postgres == before.postgres:
            if time.monotonic() > deadline or not before.supervisor.is_running():
                raise CloudError("Postgres did not come back")
            time.sleep(0.05)


def client(endpoint_url: str, service: str, **settings: Any) -> Any:
    """Make a boto3 client that can reach the local cloud and nothing else."""
    session = boto3.session.Session("test", "test", region_name=sam.REGION)
    make: Any = session.client
    # A function may run for 15 minutes, and running it twice is not the same as once.
    config = Config(retries={"max_attempts": 0}, read_timeout=910, proxies={})
    return make(service, endpoint_url=endpoint_url, config=config, **settings)


def invoke(lambda_client: Any, function: str, payload: Mapping[str, Any]) -> Any:
    """Run a function and wait; an error of its own becomes a CloudError."""
    answer = lambda_client.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
    result = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        raise CloudError(f"{function} failed: {json.dumps(result)}")
    return result


def load_state(state_dir: Path = DEFAULT_STATE) -> Cloud:
    """Give the cloud that runs in a state folder."""
    cloud = Cloud.load(state_dir)
    if cloud is None or not is_running(state_dir):
        raise CloudError(f"no local cloud runs in {state_dir}: `make up` starts one")
    return cloud


def is_running(state_dir: Path) -> bool:
    """Whether the servers of a state folder run."""
    servers = Servers.load(state_dir)
    return servers is not None and not servers.error and servers.supervisor.is_running()


def is_healthy(endpoint_url: str) -> bool:
    """Whether LocalStack answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{endpoint_url}/_localstack/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def running(
    state_dir: Path, *, fsync: bool = True, parameters: Mapping[str, str] | None = None, project: Path = ROOT
) -> Iterator[Cloud]:
    """Run a cloud for the length of a block. It reads no `.env` and cannot outlive this process."""
    try:
        yield up(state_dir, parameters=parameters, fsync=fsync, leashed=True, project=project)
    finally:
        down(state_dir)


def up(
    state_dir: Path = DEFAULT_STATE,
    *,
    settings: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    fsync: bool = True,
    leashed: bool = False,
    project: Path = ROOT,
) -> Cloud:
    """Start what does not run yet, deploy what changed, and give the cloud.

    `settings` are what `.env` holds; `parameters` are values for the template, and beat them.
    """
    state_dir = state_dir.absolute()
    state_dir.mkdir(parents=True, exist_ok=True)
    launch = Launch(
        state_dir,
        project.absolute(),
        dict(settings or {}),
        dict(parameters or {}),
        fsync=fsync,
        leashed=leashed,
    )
    with _locked(state_dir):
        if is_running(state_dir):
            return launch.refresh()
        _discard_remains(state_dir)
        try:
            return launch.start()
        except BaseException:  # half a cloud is of no use to anybody
            _down(state_dir)
            raise


@dataclass(frozen=True, slots=True)
class Launch:
    """One `up`: what was asked for, and the steps."""

    state_dir: Path
    project: Path
    settings: dict[str, str]
    parameters: dict[str, str]
    fsync: bool
    leashed: bool

    @property
    def log(self) -> Path:
        return self.state_dir / "sam.log"

    def start(self) -> Cloud:
        """Start the servers and deploy; they boot while the functions are built."""
        supervisor = self.start_supervisor()
        template = self.build()
        with step("waiting for Postgres and LocalStack"):
            servers = _wait_for_servers(self.state_dir, supervisor)
        database_url = self.database_url(servers)
        parameters = self.wanted_parameters(servers.endpoint_url, database_url)
        return self.deploy(template, servers.endpoint_url, database_url, parameters)

    def refresh(self) -> Cloud:
        """Deploy to servers that run already, if there is anything new."""
        servers = Servers.load(self.state_dir)
        if servers is None or not is_healthy(servers.endpoint_url):
            raise CloudError("LocalStack runs but does not answer: `make down`, then `make up` again")
        if bool(servers.database_url) == bool(self.settings.get("DATABASE_URL")):
            raise CloudError("DATABASE_URL was set or unset since this cloud started: `make down` first")
        database_url = self.database_url(servers)
        parameters = self.wanted_parameters(servers.endpoint_url, database_url)
        cloud = Cloud.load(self.state_dir)
        if cloud is not None and cloud.fingerprint == sam.fingerprint(self.project, parameters):
            say("  already up, and nothing changed since its deploy")
            return cloud
        return self.deploy(self.build(), servers.endpoint_url, database_url, parameters)

    def start_supervisor(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "localcloud.supervisor", "--state", str(self.state_dir)]
        command += ["--no-postgres"] if self.settings.get("DATABASE_URL") else []
        command += [] if self.fsync else ["--no-fsync"]
        command += ["--leashed"] if self.leashed else []
        with (self.state_dir / "supervisor.log").open("wb") as log:
            supervisor = subprocess.Popen(
                command,
                # Leashed, it ends when our end of this pipe closes: at the latest when we end.
                stdin=subprocess.PIPE if self.leashed else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=clean_environment(os.environ),
                start_new_session=True,
            )
        _supervisors[self.state_dir] = supervisor
        return supervisor

    def build(self, *, in_container: bool = False) -> Path:
        """Build what will be deployed."""
        with step("building functions and layer"):
            return sam.build(self.project, self.state_dir, self.log, in_container=in_container)

    def wanted_parameters(self, endpoint_url: str, database_url: str) -> dict[str, str]:
        """Values for the template, the later ones beating the earlier."""
        given = {name: value for name, value in self.settings.items() if name != "DATABASE_URL"}
        known = template_parameters(self.project / "template.yaml")
        from_settings, unknown = to_parameters(given, known)
        if unknown:
            say(f"  note: the template has no parameter for {', '.join(unknown)}; ignored")
        # SAM keeps the value of a parameter that is no longer given: what left `.env` must go back by name.
        example = self.project / ".env.example"
        defaults = read_env_file(example) if example.exists() else {}
        wanted = {
            **{name: value for key, value in defaults.items() if (name := parameter_name(key)) in known},
            **sam.configured_overrides(self.project),
            "S3EndpointUrl": endpoint_url,
            **from_settings,
            "Architecture": sam.host_architecture(),
            **database_parameters(endpoint_url, database_url),
            **self.parameters,
        }
        if "Release" in known:
            wanted["Release"] = sam.fingerprint(self.project, wanted)
        return wanted

    def database_url(self, servers: Servers) -> str:
        return servers.database_url or self.settings["DATABASE_URL"]

    def deploy(
        self, template: Path, endpoint_url: str, database_url: str, parameters: dict[str, str]
    ) -> Cloud:
        """Deploy, migrate and write down what came of it."""
        stack_name = str(sam.config(self.project, "local")["stack_name"])
        client(endpoint_url, "s3").create_bucket(Bucket=sam.ARTIFACTS_BUCKET)
        with step("deploying the template"):
            try:
                sam.deploy(self.project, template, self.log, endpoint_url=endpoint_url, parameters=parameters)
            except CommandError as error:
                reasons = _failed_resources(endpoint_url, stack_name)
                raise CloudError("\n".join([str(error), *reasons])) from error
        formation = client(endpoint_url, "cloudformation")
        stack = formation.describe_stacks(StackName=stack_name)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        cloud = Cloud(
            state_dir=self.state_dir,
            api_url=f"{endpoint_url}/_aws/execute-api/{outputs['RestApiId']}/{STAGE}",
            endpoint_url=endpoint_url,
            database_url=database_url,
            outputs=outputs,
            parameters=parameters,
            fingerprint=sam.fingerprint(self.project, parameters),
        )
        with step("migrating the database"):
            cloud.invoke("MigrateFunctionName")
        cloud.save()
        return cloud


def down(state_dir: Path = DEFAULT_STATE) -> bool:
    """End a cloud and delete its data; whether there was one."""
    state_dir = state_dir.absolute()
    if not state_dir.exists():
        return False
    with _locked(state_dir):
        return _down(state_dir)


def _down(state_dir: Path) -> bool:
    servers = Servers.load(state_dir)
    if servers is not None:
        servers.supervisor.stop(STOP_SECONDS)
        # Were the supervisor killed, the leashes would still be about to end their programs.
        for process in servers.processes().values():
            process.wait(STOP_SECONDS)
    supervisor = _supervisors.pop(state_dir, None)
    if supervisor is not None:
        with supervisor:  # closes our end of its leash, and waits
            supervisor.terminate()
    discard_data(state_dir)
    Servers.file(state_dir).unlink(missing_ok=True)
    Cloud.file(state_dir).unlink(missing_ok=True)
    return servers is not None


def _discard_remains(state_dir: Path) -> None:
    """Clear up after a cloud that ended without `down`, and say so: its data is gone."""
    servers = Servers.load(state_dir)
    if servers is not None:
        why = servers.error or "its supervisor was killed, or the machine restarted"
        say(f"  the last cloud here ended: {why}. Its Postgres and LocalStack data is discarded.")
    _down(state_dir)


def _wait_for_servers(state_dir: Path, supervisor: subprocess.Popen[bytes]) -> Servers:
    deadline = time.monotonic() + START_SECONDS
    while True:
        servers = Servers.load(state_dir)
        if servers is not None and not servers.error and is_healthy(servers.endpoint_url):
            return servers
        if supervisor.poll() is not None or time.monotonic() > deadline:
            reason = (servers.error if servers else "") or f"not ready after {START_SECONDS} s"
            logs = [tail(state_dir / name) for name in ("supervisor.log", "localstack.log")]
            raise CloudError("\n".join([f"the servers did not start: {reason}", *filter(None, logs)]))
        time.sleep(0.1)


def database_parameters(endpoint_url: str, database_url: str) -> dict[str, str]:
    """Say where the database is; its password goes into a secret, as on AWS."""
    address = Address.from_url(database_url)
    tls = parse_qs(urlsplit(database_url).query).get("sslmode", ["disable"])[0]
    secrets = client(endpoint_url, "secretsmanager")
    document = json.dumps({"username": address.user, "password": address.password})
    try:
        arn = secrets.create_secret(Name=SECRET_NAME, SecretString=document)["ARN"]
    except secrets.exceptions.ResourceExistsException:
        arn = secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=document)["ARN"]
    return {
        "DatabaseHost": address.host,
        "DatabasePort": str(address.port),
        "DatabaseName": address.database,
        "DatabaseUser": address.user,
        "DatabaseSecretArn": arn,
        "DatabaseTls": "disable" if tls in {"disable", "allow", "prefer"} else "verify",
    }


def _failed_resources(endpoint_url: str, stack_name: str) -> list[str]:
    """Why CloudFormation gave up, where it says so."""
    formation = client(endpoint_url, "cloudformation")
    try:
        events = formation.describe_stack_events(StackName=stack_name)["StackEvents"]
    except formation.exceptions.ClientError:
        return []
    return [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason")
    ]


def tail(file: Path, lines: int = LOG_LINES_OF_A_FAILURE) -> str:
    """The end of a log, with its name; nothing where it is empty."""
    if not file.exists():
        return ""
    text = "\n".join(f"    {line}" for line in file.read_text(errors="replace").splitlines()[-lines:])
    return f"  the end of {file}:\n{text}" if text else ""


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """One `up` or `down` at a time in a state folder."""
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another up or down in this folder"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
