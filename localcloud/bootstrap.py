"""Prepare the environments that make targets need: `python3 -m localcloud.bootstrap dev localcloud sam`.

Runs under whatever Python 3 (3.9 or later) the machine has, with the standard library only; what it creates
lives in `.local/`. An environment whose hash-pinned requirements did not change costs one file read.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localcloud.progress import CommandError, fail, run_logged, say, step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
ENVIRONMENTS = ("dev", "localcloud", "sam", "cli")
# What is installed from this checkout itself, so that an edit counts at once.
PROJECTS = {"cli": ("layers/common", "cli")}
PYTHON_VERSION = "3.13"

# What a caller's shell may carry that would make a program look for Python code somewhere else.
LEAKS = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONSAFEPATH",
    "PYTHONWARNINGS",
    "PYENV_VERSION",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "UV_PYTHON",
    "UV_PROJECT_ENVIRONMENT",
    "MAKEFLAGS",
    "MAKELEVEL",
)

NO_INSTALLER = """this Python cannot create environments and has no pip:
    {python}
  Install its venv module (Debian, Ubuntu: `sudo apt install python3-venv`; Fedora has it built in),
  or uv (https://docs.astral.sh/uv/), then run the same command again."""

NO_PYTHON = """no Python {version} was found on PATH or among pyenv's versions, and uv could not download one:
{reason}
  Install it (`uv python install {version}`, `pyenv install {version}`, or your system's packages)
  and run the same command again."""


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give a copy without the variables that would point a program at the caller's own Python set-up."""
    return {name: value for name, value in environ.items() if name not in LEAKS}


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Let uv reach what pip reaches: behind a company's mirror or proxy, people have set up pip."""
    settings = {
        # All of it in the one ignored folder, a downloaded Python included; uv's cache is the user's own.
        "UV_PYTHON_INSTALL_DIR": str(LOCAL / "python"),
    }
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        settings["UV_SYSTEM_CERTS"] = "1"
    if "PIP_CERT" in environ:
        settings["SSL_CERT_FILE"] = environ["PIP_CERT"]
    if "PIP_INDEX_URL" in environ:
        settings["UV_DEFAULT_INDEX"] = environ["PIP_INDEX_URL"]
    return {**settings, **environ}


def python_of(environment: str) -> Path:
    """Where an environment's interpreter stands."""
    return LOCAL / "envs" / environment / "bin" / "python"


def fingerprint(requirements: Path, environment: Path, projects: Sequence[Path] = ()) -> str:
    """What must be unchanged to reuse an environment: its place (scripts name it), its pins and projects."""
    pins = hashlib.sha256(PYTHON_VERSION.encode() + requirements.read_bytes())
    for project in projects:
        pins.update((project / "pyproject.toml").read_bytes())
    return f"{environment}\n{pins.hexdigest()}\n"


def python_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Every place where a Python of our version may stand on this machine, likeliest first."""
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / f"python{PYTHON_VERSION}"
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv")
    for version in sorted((pyenv / "versions").glob(f"{PYTHON_VERSION}*"), reverse=True):
        yield version / "bin" / "python"


def is_wanted_python(candidate: Path) -> bool:
    """Run it: pyenv's shims exist for versions that are not selected, and Debian's may lack `venv`."""
    if not os.access(candidate, os.X_OK):
        return False
    script = f"import sys, ssl, venv; sys.exit('%d.%d' % sys.version_info[:2] != {PYTHON_VERSION!r})"
    try:
        done = subprocess.run(
            [str(candidate), "-I", "-c", script],
            capture_output=True,
            env=clean_environment(os.environ),
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def find_python(environ: Mapping[str, str]) -> Path | None:
    """Give the first interpreter of our version that runs."""
    return next(filter(is_wanted_python, python_candidates(environ)), None)


class Bootstrap:
    """The steps; each looks first whether it is done."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = uv_environment(clean_environment(environ))
        self.log = LOCAL / "logs" / "bootstrap.log"

    def ensure(self, environments: Sequence[str]) -> None:
        """Bring the named environments to what their requirements say."""
        stale = [name for name in environments if not self.is_current(name)]
        if not stale:
            return
        LOCAL.mkdir(exist_ok=True)
        with self.locked():
            for name in stale:
                if not self.is_current(name):  # another make may have built it while we waited
                    self.build(name)

    def is_current(self, name: str) -> bool:
        """Compare the stamp an environment carries with what it should be."""
        stamp = self.stamp(name)
        return stamp.exists() and stamp.read_text() == self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        """What the stamp of an environment should say."""
        return fingerprint(self.requirements(name), self.place(name), self.projects(name))

    def projects(self, name: str) -> list[Path]:
        return [ROOT / project for project in PROJECTS.get(name, ())]

    def place(self, name: str) -> Path:
        return LOCAL / "envs" / name

    def stamp(self, name: str) -> Path:
        return self.place(name) / ".stamp"

    def requirements(self, name: str) -> Path:
        return ROOT / "requirements" / f"{name}.txt"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One bootstrap at a time in a clone; the lock goes with its holder, however that ends."""
        with (LOCAL / "bootstrap.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with step("waiting for another bootstrap in this folder"):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def build(self, name: str) -> None:
        """Create or update one environment and leave its stamp last."""
        uv = self.ensure_uv()
        place = self.place(name)
        moved = not self.stamp(name).exists() or self.stamp(name).read_text().splitlines()[:1] != [str(place)]
        self.stamp(name).unlink(missing_ok=True)
        if moved or not is_wanted_python(place / "bin" / "python"):
            interpreter = self.ensure_python(uv)
            with step(f"creating the {name} environment"):
                self.run([str(uv), "venv", "--clear", "--python", str(interpreter), str(place)])
        requirements = self.requirements(name)
        count = sum(line[:1].isalnum() for line in requirements.read_text().splitlines())
        with step(f"installing {count} pinned packages for {name}"):
            sync = [str(uv), "pip", "sync", "--require-hashes", "--compile-bytecode"]
            self.run([*sync, "--python", str(place / "bin" / "python"), str(requirements)])
        for project in self.projects(name):
            with step(f"installing {project.relative_to(ROOT)} for {name}"):
                install = [str(uv), "pip", "install", "--no-deps", "--no-build-isolation", "--editable"]
                self.run([*install, str(project), "--python", str(place / "bin" / "python")])
        self.stamp(name).write_text(self.fingerprint(name))

    def ensure_python(self, uv: Path) -> Path:
        """An interpreter of this machine if there is one, else uv downloads it."""
        found = find_python(self.environ)
        if found is not None:
            return found
        try:
            with step(f"downloading Python {PYTHON_VERSION}"):
                self.run([str(uv), "python", "install", "--no-bin", PYTHON_VERSION])
        except CommandError as error:
            raise CommandError(NO_PYTHON.format(version=PYTHON_VERSION, reason=error)) from error
        return max((LOCAL / "python").glob(f"cpython-{PYTHON_VERSION}*/bin/python{PYTHON_VERSION}"))

    def ensure_uv(self) -> Path:
        """Install our uv with whatever this Python offers: venv, else pip alone, else the uv on PATH."""
        tools = LOCAL / "tools"
        uv = tools / "bin" / "uv"
        stamp = tools / ".stamp"
        requirements = ROOT / "requirements" / "tools.txt"
        wanted = fingerprint(requirements, tools)
        if stamp.exists() and stamp.read_text() == wanted:
            return uv
        pins = ["install", "--quiet", "--require-hashes", "-r", str(requirements)]
        shutil.rmtree(tools, ignore_errors=True)
        with step("installing uv"):
            try:
                self.run([sys.executable, "-m", "venv", str(tools)])
                self.run([str(tools / "bin" / "python"), "-m", "pip", *pins])
            except CommandError as no_venv:
                shutil.rmtree(tools, ignore_errors=True)
                try:
                    self.run([sys.executable, "-m", "pip", *pins, "--target", str(tools)])
                except CommandError:
                    found = shutil.which("uv", path=self.environ.get("PATH"))
                    if found is None:
                        advice = NO_INSTALLER.format(python=sys.executable)
                        raise CommandError(f"{advice}\n  What it said:\n{no_venv}") from no_venv
                    say(f"  using the uv found at {found}")
                    return Path(found)
        stamp.write_text(wanted)
        return uv

    def run(self, command: Sequence[str]) -> None:
        run_logged(command, self.log, env=self.environ, cwd=ROOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the environments named on the command line (none named: all of them)."""
    parser = argparse.ArgumentParser(prog="localcloud.bootstrap", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("environments", nargs="*", metavar="|".join(ENVIRONMENTS))
    names = parser.parse_args(arguments).environments or list(ENVIRONMENTS)
    unknown = sorted(set(names) - set(ENVIRONMENTS))
    if unknown:
        parser.error(f"no such environment: {', '.join(unknown)}")
    try:
        Bootstrap(os.environ).ensure(names)
    except CommandError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return fail("interrupted; run the same command again to go on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
