"""The process that owns a local cloud's servers: `python -m localcloud.supervisor --state DIR`.

It starts Postgres and LocalStack, each on a leash, and ends both when it is told to (SIGTERM), when one of
them ends by itself, or, with `--leashed`, when its starter goes. LocalStack keeps its state in memory, so the
two live and die together, and the data is deleted with them. SIGUSR1 restarts Postgres under a running cloud.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from localcloud.bootstrap import LEAKS, ROOT, python_of
from localcloud.postgres import Postgres, PostgresError, discard_postgres, start_postgres
from localcloud.processes import Leashed, ProcessId, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPORARY = ("tmp", "runtime", "filesystem")
SUPERVISION_SECONDS = 0.2
LOCALSTACK_GRACE_SECONDS = 2  # all it holds is in memory and about to be forgotten: no reason to wait longer

LOCALSTACK_SETTINGS = {
    "LAMBDA_RUNTIME_EXECUTOR": "process",  # localcloud/executor
    "LAMBDA_SYNCHRONOUS_CREATE": "1",
    "LAMBDA_KEEPALIVE_MS": "600000",
    "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0",  # our poller waits in SQS, not between polls
    "SQS_ENDPOINT_STRATEGY": "path",
    "S3_SKIP_SIGNATURE_VALIDATION": "0",  # else tampered and expired presigned URLs answer 200
    "EAGER_SERVICE_LOADING": "0",
    # It shall neither serve names, nor fetch certificates, nor report anything to anybody.
    "DNS_ADDRESS": "0",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DISABLE_EVENTS": "1",
}


@dataclass(frozen=True, slots=True)
class Servers:
    """What runs, as the supervisor writes it down. `error` says why it ended by itself."""

    supervisor: ProcessId
    localstack: ProcessId | None
    """Its leash, which ends with it."""
    postgres: ProcessId | None
    endpoint_url: str
    database_url: str
    """Empty where the database is not ours."""
    error: str = ""

    @staticmethod
    def file(state_dir: Path) -> Path:
        """Where it is written."""
        return state_dir / "servers.json"

    @classmethod
    def load(cls, state_dir: Path) -> Self | None:
        """Read what the last supervisor wrote."""
        try:
            fields = json.loads(cls.file(state_dir).read_text())
        except FileNotFoundError:
            return None
        for name in ("supervisor", "localstack", "postgres"):
            fields[name] = fields[name] and ProcessId(**fields[name])
        return cls(**fields)

    def save(self, state_dir: Path) -> None:
        """Write it at once or not at all; it holds a password."""
        part = self.file(state_dir).with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(self), indent=2))
        part.replace(self.file(state_dir))

    def processes(self) -> dict[str, ProcessId]:
        """Everything that was started, by name."""
        found = {"supervisor": self.supervisor, "localstack": self.localstack, "postgres": self.postgres}
        return {name: process for name, process in found.items() if process is not None}


def localstack_environment(state_dir: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Everything LocalStack needs and nothing of the user's own AWS set-up."""
    inherited = {
        name: value for name, value in environ.items() if name not in LEAKS and not name.startswith("AWS_")
    }
    plugin = ROOT / "localcloud" / "executor" / "plugin"
    return {
        **inherited,
        **LOCALSTACK_SETTINGS,
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "LOCALCLOUD_STATE_DIR": str(state_dir),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{plugin}",
        "TMPDIR": str(state_dir / "tmp"),
        "FILESYSTEM_ROOT": str(state_dir / "filesystem"),
    }


class Supervisor:
    """Owns the servers of one state folder."""

    def __init__(self, state_dir: Path, *, own_postgres: bool, fsync: bool) -> None:
        self.state_dir = state_dir
        self.own_postgres = own_postgres
        self.fsync = fsync
        self.postgres: Postgres | None = None
        self.localstack: Leashed | None = None
        self.endpoint_url = ""
        self.wake = threading.Event()
        self.stop_asked = False
        self.restart_asked = False

    def run(self) -> str:
        """Start, watch and end the servers; the reason, where nobody asked for the end."""
        error = ""
        try:
            self.start()
            self.save()
            while not self.stop_asked and not error:
                self.wake.wait(SUPERVISION_SECONDS)
                self.wake.clear()
                if self.restart_asked and self.postgres is not None:
                    self.restart_asked = False
                    self.postgres.restart()
                    self.save()
                error = self.dead_server()
        except (OSError, PostgresError) as failure:
            error = str(failure)
        self.end()
        return error

    def start(self) -> None:
        (self.state_dir / "tmp").mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{port}"
        with (self.state_dir / "localstack.log").open("wb") as log:
            self.localstack = Leashed(
                [str(python_of("localcloud")), "-m", "localstack.runtime.main"],
                log=log,
                env=localstack_environment(self.state_dir, port, os.environ),
                cwd=self.state_dir,
                grace=LOCALSTACK_GRACE_SECONDS,
            )
        if self.own_postgres:
            self.postgres = start_postgres(self.state_dir, fsync=self.fsync)

    def save(self) -> None:
        Servers(
            supervisor=ProcessId.of(os.getpid()),
            localstack=ProcessId.of(self.localstack.pid) if self.localstack else None,
            postgres=self.postgres.process if self.postgres else None,
            endpoint_url=self.endpoint_url,
            database_url=self.postgres.url if self.postgres else "",
        ).save(self.state_dir)

    def dead_server(self) -> str:
        if self.localstack is not None and (code := self.localstack.exit_code()) is not None:
            return f"LocalStack ended by itself (exit code {code}); see localstack.log"
        if self.postgres is not None and not self.postgres.is_running():
            return "Postgres ended by itself; see postgres.log"
        return ""

    def end(self) -> None:
        if self.localstack is not None:
            self.localstack.stop()
        if self.postgres is not None:
            self.postgres.discard()
        discard_data(self.state_dir)

    def ask_stop(self, *_: object) -> None:
        self.stop_asked = True
        self.wake.set()

    def ask_restart(self, *_: object) -> None:
        self.restart_asked = True
        self.wake.set()

    def follow_starter(self) -> None:
        os.read(0, 1)
        self.ask_stop()


def discard_data(state_dir: Path) -> None:
    """Delete what a cloud, which must have ended, kept; its logs stay."""
    discard_postgres(state_dir)
    for name in TEMPORARY:
        shutil.rmtree(state_dir / name, ignore_errors=True)


def main() -> int:
    """Supervise until told otherwise."""
    parser = argparse.ArgumentParser(prog="localcloud.supervisor")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--leashed", action="store_true", help="end when stdin closes")
    parser.add_argument("--no-postgres", action="store_true", help="the database is somebody else's")
    parser.add_argument("--no-fsync", action="store_true", help="for tests")
    arguments = parser.parse_args()
    supervisor = Supervisor(
        arguments.state, own_postgres=not arguments.no_postgres, fsync=not arguments.no_fsync
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.ask_stop)
    signal.signal(signal.SIGUSR1, supervisor.ask_restart)
    if arguments.leashed:
        threading.Thread(target=supervisor.follow_starter, daemon=True).start()
    error = supervisor.run()
    if not error:
        Servers.file(arguments.state).unlink(missing_ok=True)
        return 0
    print(error, file=sys.stderr, flush=True)
    Servers(ProcessId.of(os.getpid()), None, None, "", "", error).save(arguments.state)
    return 1


if __name__ == "__main__":
    sys.exit(main())
