"""One execution environment of a function: a process, and the Lambda Runtime API that it talks to.

Nothing here knows LocalStack. The API is the one that real runtimes use:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

API = "/2018-06-01/runtime"
INIT_SECONDS = 60  # AWS gives 10; a busy laptop may need more, and nobody pays for the difference
END_SECONDS = 5
FUNCTION_MAIN = Path(__file__).with_name("function_main.py")


@dataclass(frozen=True, slots=True)
class Function:
    """What to run and how."""

    name: str
    version: str
    handler: str
    timeout: int
    memory_mb: int
    json_logs: bool
    task_root: Path
    layers: tuple[Path, ...]
    runtime: Path
    """A folder with what AWS's own runtime brings: its interface client and boto3."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call, as LocalStack hands it over."""

    request_id: str
    function_arn: str
    trace_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call."""

    payload: bytes
    failed: bool
    logs: str


class FunctionProcess:
    """A process that serves one invocation after another, and is replaced after a crash or a timeout."""

    def __init__(self, function: Function, environment: Mapping[str, Any], log_file: Path) -> None:
        self.function = function
        self._environment = environment
        self._log_file = log_file
        self._runtime: _Runtime | None = None

    def start(self) -> None:
        """Start the process; its initialisation goes on while the first invocation waits."""
        self._usable_runtime()

    def stop(self) -> None:
        """End the process and everything it started."""
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None

    def invoke(self, invocation: Invocation) -> Outcome:
        """Run the handler once. Whatever goes wrong in the function is an outcome, as it is on AWS."""
        runtime = self._usable_runtime()
        outcome = runtime.invoke(invocation)
        if runtime.is_spent:
            self.stop()
        return outcome

    def _usable_runtime(self) -> _Runtime:
        if self._runtime is not None and self._runtime.is_spent:  # it crashed between two invocations
            self.stop()
        if self._runtime is None:
            self._runtime = _Runtime(self.function, self._environment, self._log_file)
        return self._runtime


class _Runtime:
    """One process with its own Runtime API; gone after its first crash."""

    def __init__(self, function: Function, environment: Mapping[str, Any], log_file: Path) -> None:
        self.function = function
        self._changed = threading.Condition()
        self._waiting: Invocation | None = None
        self._taken = False
        self._outcome: tuple[bytes, bool] | None = None
        self._init_error: bytes | None = None
        self._exit_code: int | None = None
        self._closed = False
        self._timed_out = False
        self._started = time.monotonic()
        self._init_milliseconds: float | None = None

        self._log = _Log(log_file, function)
        self._log.platform("initStart", f"INIT_START Runtime Version: python:{_python_version()}", {})
        self._server = _Server(self)
        self._thread(self._server.serve_forever)
        self._temporary = Path(tempfile.mkdtemp(prefix=f"{function.name}-"))
        # The process ends when the end of `lifeline` that we keep is closed: see function_main.
        lifeline, self._lifeline = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", str(FUNCTION_MAIN), function.handler],
                stdin=lifeline,
                stdout=output,
                stderr=output,
                cwd=function.task_root,
                env=self._process_environment(environment),
                start_new_session=True,
            )
        finally:
            os.close(lifeline)
            os.close(output)
        self._thread(self._watch_process)
        self._follower = self._thread(self._follow_output)

    def _thread(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"{self.function.name}:{target.__name__}", daemon=True)
        thread.start()
        return thread

    @property
    def is_spent(self) -> bool:
        """Whether it can serve no further invocation."""
        return self._closed or self._timed_out or self._exit_code is not None or self._init_error is not None

    def invoke(self, invocation: Invocation) -> Outcome:
        self._log.platform(
            "start",
            f"START RequestId: {invocation.request_id} Version: {self.function.version}",
            {"requestId": invocation.request_id, "version": self.function.version},
        )
        started = time.monotonic()
        with self._changed:
            self._waiting, self._taken, self._outcome = invocation, False, None
            self._changed.notify_all()
            # The function's time begins when its process asks for work: initialising is not its fault.
            self._changed.wait_for(self._has_begun_or_ended, INIT_SECONDS)
            if self._taken:
                started = time.monotonic()
                self._changed.wait_for(self._has_ended, self.function.timeout)
            self._waiting = None
            payload, failed, status = self._conclude(invocation.request_id)
        milliseconds = (time.monotonic() - started) * 1000
        memory = self._memory_mb()
        if self._timed_out:
            self._kill()
        self._read_output()
        self._report(invocation.request_id, milliseconds, memory, status)
        return Outcome(payload, failed, self._log.take())

    def _has_ended(self) -> bool:
        return self._outcome is not None or self._init_error is not None or self._exit_code is not None

    def _has_begun_or_ended(self) -> bool:
        return self._taken or self._has_ended()

    def _conclude(self, request_id: str) -> tuple[bytes, bool, str]:
        if self._outcome is not None:
            return *self._outcome, "error" if self._outcome[1] else "success"
        if self._init_error is not None:
            return self._init_error, True, "error"
        if self._exit_code is not None:
            reason = f"exit status {self._exit_code}"
            if self._exit_code < 0:
                reason = f"signal: {signal.Signals(-self._exit_code).name}"
            text = f"RequestId: {request_id} Error: Runtime exited with error: {reason}"
            return _error("Runtime.ExitError", text), True, "error"
        self._timed_out = True
        seconds = self.function.timeout if self._taken else INIT_SECONDS
        text = f"{_now()} {request_id} Task timed out after {seconds:.2f} seconds"
        self._log.write(text)
        return _error("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}"), True, "timeout"

    def close(self) -> None:
        """End the process and the API. A redeploy may do so while an invocation ends by itself."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._kill()
        os.close(self._lifeline)
        self._server.shutdown()
        self._server.server_close()
        self._follower.join(END_SECONDS)
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    # What the API's handler threads call.

    def next_invocation(self) -> tuple[Invocation, float] | None:
        """Wait for work and give it with its deadline; None when there will be none."""
        with self._changed:
            if self._init_milliseconds is None:
                self._init_milliseconds = (time.monotonic() - self._started) * 1000
            self._changed.wait_for(lambda: self._closed or (self._waiting is not None and not self._taken))
            if self._closed or self._waiting is None:
                return None
            self._taken = True
            self._changed.notify_all()
            return self._waiting, time.time() + self.function.timeout

    def finish(self, request_id: str, payload: bytes, *, failed: bool) -> bool:
        """Take the answer of an invocation; False where it comes too late."""
        with self._changed:
            if self._waiting is None or self._waiting.request_id != request_id:
                return False
            self._outcome = (payload, failed)
            self._changed.notify_all()
            return True

    def fail_init(self, payload: bytes) -> None:
        """Take the error that kept the handler's module from loading."""
        with self._changed:
            self._init_error = payload
            self._changed.notify_all()

    # The process.

    def _process_environment(self, environment: Mapping[str, Any]) -> dict[str, str]:
        function = self.function
        path = [function.task_root]
        for layer in function.layers:
            path += [layer / f"python/lib/python{_python_version()}/site-packages", layer / "python"]
        path.append(function.runtime)
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            # Some Pythons find their own library by it.
            **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            # LocalStack passes some values as numbers.
            **{name: str(value) for name, value in environment.items() if not name.startswith("LOCALSTACK_")},
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{_python_version()}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "LAMBDA_TASK_ROOT": str(function.task_root),
            "LAMBDA_RUNTIME_DIR": str(function.runtime),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "TMPDIR": str(self._temporary),
        }

    def _watch_process(self) -> None:
        exit_code = self._process.wait()
        with self._changed:
            self._exit_code = exit_code
            self._changed.notify_all()

    def _kill(self) -> None:
        # macOS answers EPERM for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END_SECONDS)

    def _memory_mb(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss >> 20)
        except psutil.Error:
            return 0

    def _follow_output(self) -> None:
        """Move what the function prints into its log as it comes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while selector.select() and self._read_output():
                pass
        with self._log.lock:
            os.close(self._output)
            self._output = -1

    def _read_output(self) -> bool:
        """Move what is there now; an answer that has arrived was preceded by all that was printed for it."""
        with self._log.lock:
            while self._output >= 0:
                try:
                    chunk = os.read(self._output, 1 << 16)
                except BlockingIOError:
                    return True
                if not chunk:
                    break
                self._log.write_raw(chunk)
        return False

    def _report(self, request_id: str, milliseconds: float, memory: int, status: str) -> None:
        billed = int(milliseconds) + 1
        metrics: dict[str, float] = {
            "durationMs": round(milliseconds, 2),
            "billedDurationMs": billed,
            "memorySizeMB": self.function.memory_mb,
            "maxMemoryUsedMB": memory,
        }
        init = ""
        if self._init_milliseconds is not None and self._init_milliseconds > 0:
            metrics["initDurationMs"] = round(self._init_milliseconds, 2)
            init = f"\tInit Duration: {self._init_milliseconds:.2f} ms"
            self._init_milliseconds = 0.0  # only the first report has it
        if not self.function.json_logs:
            self._log.write(f"END RequestId: {request_id}")
        text = (
            f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\t"
            f"Billed Duration: {billed} ms\tMemory Size: {self.function.memory_mb} MB\t"
            f"Max Memory Used: {memory} MB{init}"
        )
        self._log.platform("report", text, {"requestId": request_id, "metrics": metrics, "status": status})


class _Log:
    """What a function prints, and the platform's own lines: kept for CloudWatch and appended to a file."""

    def __init__(self, file: Path, function: Function) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("ab", buffering=0)
        self._json = function.json_logs
        self._kept: list[bytes] = []
        self.lock = threading.RLock()

    def write_raw(self, chunk: bytes) -> None:
        with self.lock:
            self._kept.append(chunk)
            if not self._file.closed:
                self._file.write(chunk)

    def write(self, line: str) -> None:
        self.write_raw(f"{line}\n".encode())

    def platform(self, kind: str, text: str, record: Mapping[str, Any]) -> None:
        """Write a line of the platform in the format that the function's logging asks for."""
        if self._json:
            text = json.dumps({"time": _now(), "type": f"platform.{kind}", "record": record})
        self.write(text)

    def close(self) -> None:
        """Nothing more comes."""
        with self.lock:
            self._file.close()

    def take(self) -> str:
        """Give what was written since the last call."""
        with self.lock:
            kept, self._kept = self._kept, []
        return b"".join(kept).decode(errors="replace")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, runtime: _Runtime) -> None:
        self.runtime = runtime
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # One segment per answer, sent at once: without these two a call takes 40 ms longer.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path != f"{API}/invocation/next":
            self._answer(404)
            return
        work = self.server.runtime.next_invocation()
        if work is None:
            self.close_connection = True
            return
        invocation, deadline = work
        headers = {
            # awslambdaric 4.2 dies with SIGSEGV where this one is missing.
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        self._answer(200, invocation.payload, headers)

    def do_POST(self) -> None:
        body = self._body()
        match self.path.removeprefix(f"{API}/").split("/"):
            case ["init", "error"]:
                self.server.runtime.fail_init(body)
                self._answer(202)
            case ["invocation", request_id, "response" | "error" as kind]:
                taken = self.server.runtime.finish(request_id, body, failed=kind == "error")
                self._answer(202 if taken else 400)
            case _:
                self._answer(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _answer(self, status: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def link_runtime(folder: Path, packages: Path, names: Sequence[str]) -> Path:
    """Make the folder with what AWS's runtime brings, out of links into an installed environment."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in names:
        for found in packages.glob(pattern):
            link = folder / found.name
            if not link.is_symlink():
                link.symlink_to(found)
    return folder


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(kind: str, text: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": text}).encode()
