"""VeriPost and its store in one process, for tests of the client: real sockets, faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

KEY = "vp_a-key-that-is-good"
NOW = "2026-01-02T03:04:05Z"


@dataclass
class Fault:
    """What goes wrong for the next requests whose `METHOD /path` matches.

    `status` answers so; `cut` sends so many bytes of the body and hangs up; neither hangs up at once.
    """

    pattern: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>gateway</html>"
    cut: int | None = None


@dataclass
class Package:
    """What the server knows of a package; `path` is what polls see, one after the other."""

    id: UUID
    name: str
    platform: str = "camworks"
    sha256: str | None = None
    size: int | None = None
    data: bytes | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    path: list[str] = field(default_factory=lambda: ["pending", "parsing", "ready"])
    error: dict[str, Any] = field(default_factory=dict)
    job_id: UUID = field(default_factory=uuid4)

    def now(self) -> str:
        """Return the state, and go on to the next."""
        if self.data is None and self.path[0] == "pending":
            return "pending"
        return self.path.pop(0) if len(self.path) > 1 else self.path[0]


@dataclass(frozen=True)
class Request:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


def problem(code: str, message: str, severity: str = "error") -> dict[str, Any]:
    """Return a finding as the API shows it."""
    return {
        "code": code,
        "severity": severity,
        "member": None,
        "message": message,
        "detail": None,
        "hint": "Do it again.",
    }


class StandIn:
    """The server's state, and everything that was asked of it."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/api"
        self.key = KEY
        self.packages: dict[str, Package] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.ranges = True
        self.bundle_polls = 2
        self.bundle: bytes | None = None
        self.delete_answers: list[int] = []
        self.fate: dict[str, Any] = {}  # why the next packages are refused, if they are
        self.tells_duplicates = False
        self.polite = False  # whether polls are answered with ETag, 304 and Retry-After
        self.findings: list[dict[str, Any]] = []
        self.connections = 0
        self.lock = threading.Lock()

    def add(self, files: dict[str, bytes], *, name: str = "MILL", data: bytes = b"PK") -> Package:
        """Make a package that is ready."""
        package = Package(uuid4(), name, data=data, files=files, path=["ready"])
        package.sha256, package.size = hashlib.sha256(data).hexdigest(), len(data)
        self.packages[str(package.id)] = package
        return package

    def count(self, pattern: str) -> int:
        """Return how many requests came whose `METHOD /path` matches."""
        return sum(bool(re.search(pattern, request.line)) for request in self.requests)

    # -- answers: (status, headers, document or bytes)

    def answer(self, request: Request) -> tuple[int, dict[str, str], Any]:
        """Return what VeriPost or its store would."""
        if request.path.startswith("/store/"):
            return self.store(request)
        path = request.path.removeprefix("/api/v1")
        if path == "/health":
            return 200, {}, {"status": "ok", "database": "ok", "storage": "ok", "version": "0.1.0"}
        if request.headers.get("x-api-key") != self.key:
            return 401, {}, error("unauthenticated", "This needs an API key.")
        for pattern, method in self.ROUTES:
            found = re.fullmatch(pattern, f"{request.method} {path}")
            if found:
                answer: tuple[int, dict[str, str], Any] = method(self, request, *found.groups())
                return answer
        return 404, {}, error("route_not_found", "There is nothing at this address.")

    def announce(self, request: Request) -> tuple[int, dict[str, str], Any]:
        wish = json.loads(request.body)
        if wish["platform"] != "camworks":
            return 422, {}, error("unknown_platform", "No such platform.", [problem("unknown_platform", "?")])
        if self.tells_duplicates and request.query.get("allow_duplicate") != "true":
            for known in self.packages.values():
                if known.sha256 == wish["sha256"] and known.path == ["ready"]:
                    told = {"package_id": str(known.id), "duplicate_of": str(known.id), "status": "ready"}
                    return 200, {}, told
        package = Package(uuid4(), wish["filename"].removesuffix(".zip"), wish["platform"])
        package.sha256, package.size = wish["sha256"], wish["size_bytes"]
        self.packages[str(package.id)] = package
        if self.fate:
            package.path, package.error = ["pending", "error"], self.fate
        fields = {"key": str(package.id), "policy": "signed"}
        form = {
            "url": f"{self.origin}/store/",
            "fields": fields,
            "expires_at": "2126-01-01T00:00:00Z",
            "max_bytes": package.size,
        }
        return 202, {}, {**accepted(package), "upload": form}

    def list_packages(self, request: Request) -> tuple[int, dict[str, str], Any]:
        return self.page(request, "packages", [summary(package) for package in self.packages.values()])

    def show(self, _request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        package = self.packages.get(package_id)
        if package is None:
            return 404, {}, error("package_not_found", "There is no such package.")
        problems = package.error.get("problems", [])
        detail = {
            **summary(package),
            "error_detail": package.error.get("error_detail"),
            "job_id": str(package.job_id),
            "source_key": "uploads/x/archive.zip",
            "created_by": "me",
            "problem_count": len(problems),
            "run_count": 0,
            "files": files_of(package)[:2],
            "problems": problems[:1],
            "runs": [],
        }
        return 200, {}, detail

    def status(self, request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        package = self.packages.get(package_id)
        if package is None:
            return 404, {}, error("package_not_found", "There is no such package.")
        received = None if package.data is None else len(package.data)
        document = {
            **accepted(package),
            "status": package.now(),
            "error_code": package.error.get("error_code"),
            "error_message": package.error.get("error_message"),
            "error_detail": None,
            "file_count": len(package.files),
            "section_count": None,
            "problem_count": len(package.error.get("problems", [])),
            "problems": package.error.get("problems", []),
            "progress": progress(received),
            "updated_at": NOW,
        }
        if not self.polite:
            return 200, {}, document
        tag = f'"{document["status"]}"'
        headers = {"ETag": tag, "Retry-After": "4"}
        return (
            (304, headers, b"") if request.headers.get("if-none-match") == tag else (200, headers, document)
        )

    def list_files(self, request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        if package_id not in self.packages:
            return 404, {}, error("package_not_found", "There is no such package.")
        return self.page(request, "files", files_of(self.packages[package_id]))

    def list_problems(self, request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        return self.page(request, "problems", self.packages[package_id].error.get("problems", []))

    def locate(self, _request: Request, package_id: str, file_id: str) -> tuple[int, dict[str, str], Any]:
        names = {file["id"]: file["filename"] for file in files_of(self.packages[package_id])}
        return 302, {"Location": f"{self.origin}/store/{package_id}/{names[file_id].encode().hex()}"}, {}

    def locate_archive(self, _request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        return 302, {"Location": f"{self.origin}/store/{package_id}/archive"}, {}

    def make_bundle(self, request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        self.bundle_polls -= request.method == "GET"
        if request.method == "POST" or self.bundle_polls > 0:
            return 202, {"Retry-After": "3"}, {"status": "packing"}
        return 302, {"Location": f"{self.origin}/store/{package_id}/bundle"}, {}

    def replay(self, _request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        package = self.packages[package_id]
        if package.path[0] not in ("ready", "error"):
            return 409, {}, error("package_busy", "This package is being worked on.")
        package.job_id, package.path = uuid4(), ["pending", "ready"]
        return 202, {}, accepted(package)

    def delete(self, _request: Request, package_id: str) -> tuple[int, dict[str, str], Any]:
        status = self.delete_answers.pop(0) if self.delete_answers else 204
        if status == 409:
            return 409, {"Retry-After": "7"}, error("package_busy", "This package is being worked on.")
        if status == 204:
            self.packages.pop(package_id, None)
            return 204, {}, b""
        return 202, {}, {"package_id": package_id, "status": "deleting"}

    def keys(self, request: Request) -> tuple[int, dict[str, str], Any]:
        key = {
            "id": str(uuid4()),
            "prefix": "vp_12345678",
            "client_name": "erp",
            "scopes": ["read"],
            "created_at": NOW,
            "last_used_at": None,
            "expires_at": None,
            "revoked_at": None,
        }
        if request.method == "POST":
            wish = json.loads(request.body)
            return 201, {}, {**key, **wish, "key": "vp_new"}
        return 200, {}, {"keys": [key], "count": 1, "next_cursor": None}

    def revoke(self, _request: Request, _key_id: str) -> tuple[int, dict[str, str], Any]:
        return 204, {}, b""

    def order_doctor(self, request: Request) -> tuple[int, dict[str, str], Any]:
        self.ordered = json.loads(request.body)
        return 202, {}, {"doctor_id": str(uuid4()), "status": "queued"}

    def doctor(self, _request: Request, doctor_id: str) -> tuple[int, dict[str, str], Any]:
        done = self.count(r"GET .*/doctor/") > 1
        report = {
            "doctor_id": doctor_id,
            "status": "done" if done else "queued",
            "step": None,
            **self.ordered,
            "created_at": NOW,
            "finished_at": NOW if done else None,
            "error": None,
            "looked_at": {"objects": 1, "rows": 1, "originals": 1, "packages": 1},
            "left_alone": 0,
            "not_compared": {"files": 0, "originals": 0},
            "counts": {},
            "truncated": False,
            "found": len(self.findings),
            "fixed": sum(finding["fixed"] for finding in self.findings),
            "findings": self.findings,
        }
        return 200, {}, report

    def search(self, request: Request) -> tuple[int, dict[str, str], Any]:
        names = [f"{request.query['q']}_{number}" for number in range(3)]
        hit = dict.fromkeys(("machine_type", "controller_type", "section_id", "line", "value"))
        hits: list[dict[str, Any]] = [
            {
                **hit,
                "subject": "section",
                "kind": "CALC",
                "package_id": str(uuid4()),
                "package_name": "HAAS",
                "platform": "camworks",
                "status": "ready",
                "filename": "HAAS.SRC",
                "name": name,
                "matches": [],
            }
            for name in names
        ]
        status, headers, page = self.page(request, "hits", hits)
        return status, headers, {**page, "substrings": False, "complete": True}

    def diff(self, request: Request, one: str, other: str) -> tuple[int, dict[str, str], Any]:
        same = one == other
        none = {"added": 0, "removed": 0, "changed": 0, "renamed": 0, "same": 7}
        lines = "@@ -1 +1 @@\n-:T:G0\n+:T:G1\n" if "section" in request.query else None
        difference = {
            **dict.fromkeys(("section_id", "other_section_id", "value", "other_value")),
            **dict.fromkeys(("first_line", "last_line", "other_first_line", "other_last_line"), 1),
            "subject": "section",
            "kind": "TEMPLATE",
            "filename": "HAAS.SRC",
            "other_filename": "HAAS.SRC",
            "diff": lines,
        }
        found = [
            {**difference, "change": change, "name": name}
            for name, change in (("RAPID", "changed"), ("TAP\x1b[31m", "added"), ("OLD", "removed"))
        ]
        status, headers, page = self.page(request, "differences", [] if same else found)
        totals = none if same else {**none, "added": 1, "removed": 1, "changed": 1}
        counts = {"files": none, "sections": totals, "attributes": none}
        return status, headers, {"package_id": one, "other_id": other, **counts, **page}

    def page(self, request: Request, name: str, rows: list[Any]) -> tuple[int, dict[str, str], Any]:
        start, limit = int(request.query.get("cursor", 0)), min(int(request.query["limit"]), 2)
        page = rows[start : start + limit]
        following = str(start + limit) if start + limit < len(rows) else None
        return 200, {}, {name: page, "count": len(page), "next_cursor": following}

    ROUTES = (
        (r"POST /packages", announce),
        (r"GET /packages", list_packages),
        (r"GET /packages/([^/]+)", show),
        (r"GET /packages/([^/]+)/status", status),
        (r"GET /packages/([^/]+)/files", list_files),
        (r"GET /packages/([^/]+)/problems", list_problems),
        (r"GET /packages/([^/]+)/files/([^/]+)/download", locate),
        (r"GET /packages/([^/]+)/archive", locate_archive),
        (r"(?:GET|POST) /packages/([^/]+)/bundle", make_bundle),
        (r"POST /packages/([^/]+)/replay", replay),
        (r"GET /packages/([^/]+)/diff/([^/]+)", diff),
        (r"GET /search", search),
        (r"DELETE /packages/([^/]+)", delete),
        (r"(?:GET|POST) /keys", keys),
        (r"DELETE /keys/([^/]+)", revoke),
        (r"POST /doctor", order_doctor),
        (r"GET /doctor/([^/]+)", doctor),
    )

    def store(self, request: Request) -> tuple[int, dict[str, str], Any]:
        assert "x-api-key" not in request.headers, "the key has left for the store"
        if request.method == "POST":
            return self.take_form(request)
        package_id, name = request.path.split("/")[2:]
        package = self.packages[package_id]
        held = {"archive": package.data, "bundle": self.bundle}
        data = held[name] if name in held else package.files[bytes.fromhex(name).decode()]
        assert data is not None
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if not found or not self.ranges:
            return 200, {}, data
        start = int(found.group(1))
        if start >= len(data):
            return 416, {}, b"<Error><Code>InvalidRange</Code></Error>"
        return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]

    def take_form(self, request: Request) -> tuple[int, dict[str, str], Any]:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts: dict[str, bytes] = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + request.body).iter_parts():
            name = part.get_param("name", header="content-disposition")
            parts[str(name)] = part.get_payload(decode=True)  # type: ignore[assignment]
        package = self.packages[parts["key"].decode()]
        assert list(parts)[-1] == "file", "S3 ignores what follows the file"
        if hashlib.sha256(parts["file"]).hexdigest() != package.sha256:
            return 400, {}, b"<Error><Code>BadDigest</Code><Message>not these bytes</Message></Error>"
        package.data = parts["file"]
        return 204, {}, b""


def error(code: str, message: str, problems: list[Any] | None = None) -> dict[str, Any]:
    """Return an error as the API shows it."""
    told = {"code": code, "message": message, "detail": "technical", "request_id": "r-1"}
    return {**told, "problems": problems} if problems else told


def accepted(package: Package) -> dict[str, Any]:
    return {"package_id": str(package.id), "job_id": str(package.job_id), "status": "pending"}


def progress(received: int | None) -> dict[str, int | None]:
    return {
        "files_stored": 0,
        "files_total": None,
        "bytes_stored": 0,
        "bytes_total": None,
        "bytes_received": received,
    }


def summary(package: Package) -> dict[str, Any]:
    return {
        "id": str(package.id),
        "name": package.name,
        "platform": package.platform,
        "status": package.path[0],
        "machine_type": None,
        "controller_type": None,
        "error_code": package.error.get("error_code"),
        "error_message": package.error.get("error_message"),
        "file_count": len(package.files),
        "section_count": None,
        "size_bytes": package.size,
        "content_hash": package.sha256,
        "duplicate_of": None,
        "created_at": NOW,
        "updated_at": NOW,
        "ready_at": NOW,
    }


def files_of(package: Package) -> list[dict[str, Any]]:
    return [
        {
            "id": str(UUID(bytes=hashlib.md5(name.encode()).digest())),
            "filename": name,
            "original_path": name,
            "file_extension": ".SRC",
            "size_bytes": len(data),
            "content_hash": hashlib.sha256(data).hexdigest(),
            "created_at": NOW,
        }
        for name, data in sorted(package.files.items())
    ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.stand_in = self.server.stand_in
        self.stand_in.connections += 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        line = f"{self.command} {parts.path}"
        with self.stand_in.lock:
            fault = next((f for f in self.stand_in.faults if f.times and re.search(f.pattern, line)), None)
            if fault:
                fault.times -= 1
        if fault and fault.status is None and fault.cut is None:
            self._hang_up()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
        with self.stand_in.lock:
            self.stand_in.requests.append(request)
            if fault and fault.status is not None:
                status, extra, content = fault.status, fault.headers, fault.body
            else:
                status, extra, content = self.stand_in.answer(request)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault and fault.cut is not None:
            self.wfile.write(data[: fault.cut])
            self._hang_up()
            return
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the base class asks for these names


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up."""


@contextmanager
def running() -> Iterator[StandIn]:
    """Serve until the context ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.stand_in = stand_in = StandIn(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
