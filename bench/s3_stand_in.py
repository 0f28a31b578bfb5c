"""An S3 for measuring: `python -m bench.s3_stand_in` prints what it can do itself.

One process, one thread, HTTP/1.1 by hand over `asyncio`. It speaks as much of S3 as boto3, obstore and a raw
client need to read archives and write files, and as little as possible beside that, because its CPU time is
spent on the very machine that is being measured. It checks no signatures and, unless `verify` is on, no
checksums.

Objects that are read come from a folder: the last segment of the key names the file, whatever the bucket, the
rest of the key and the version, so one file serves any number of packages. Their bytes go from the page cache
to the socket. Objects that are written are counted and dropped, unless `keep_bytes` says otherwise.

    with StandIn(folder) as s3:
        s3.configure(put_delay_ms=25)
        boto3.client("s3", endpoint_url=s3.url)
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import mmap
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote

from bench.processes import ROOT, environment

_SCRATCH_BYTES: Final = 1 << 20
_CONTROL: Final = "/_stand-in"
_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MODIFIED: Final = "Thu, 01 Jan 2026 00:00:00 GMT"
_REASONS: Final = {
    200: "OK", 204: "No Content", 206: "Partial Content", 400: "Bad Request", 404: "Not Found",
    412: "Precondition Failed", 416: "Range Not Satisfiable", 501: "Not Implemented",
}  # fmt: skip


class Store:
    """What all connections share: the files to read, the settings and the counters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put_delay = 0.0
        self.keep_bytes = 0
        self.verify = False
        self.kept: dict[str, bytes] = {}
        self.counters: dict[str, int] = {}
        # Shared by all connections: a chunk is used up before the next one is read, on the one thread.
        self.scratch = bytearray(_SCRATCH_BYTES)
        self._files: dict[str, tuple[mmap.mmap | bytes, str]] = {}
        self._serial = 0

    def open(self, key: str) -> tuple[mmap.mmap | bytes, str] | None:
        """Return the bytes behind a key and their ETag."""
        if key in self.kept:
            return self.kept[key], f'"{hashlib.md5(self.kept[key], usedforsecurity=False).hexdigest()}"'
        name = key.rpartition("/")[2]
        if name not in self._files:
            path = self.folder / name
            if not name or not path.is_file():
                return None
            size = path.stat().st_size
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            etag = hashlib.md5(f"{name}:{size}".encode(), usedforsecurity=False).hexdigest()
            self._files[name] = data, f'"{etag}"'
        return self._files[name]

    def serial(self) -> str:
        """Return 32 hex digits that were not used before."""
        self._serial += 1
        return f"{self._serial:032x}"

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0) + amount

    def configure(self, values: dict[str, Any]) -> dict[str, Any]:
        """Set what is named, forget the counters if asked to, and tell how things stand."""
        self.put_delay = values.get("put_delay_ms", self.put_delay * 1000) / 1000
        self.keep_bytes = values.get("keep_bytes", self.keep_bytes)
        self.verify = values.get("verify", self.verify)
        if values.get("reset"):
            self.counters.clear()
            self.kept.clear()
            self._files.clear()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counters": self.counters,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "kept": {key: hashlib.sha256(data).hexdigest() for key, data in self.kept.items()},
        }


class Connection(asyncio.BufferedProtocol):
    """One client. Requests come one after the other: none of our clients pipelines."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._view = memoryview(store.scratch)
        self._pending = b""  # the part of a head that has come so far
        self._left = 0  # of the body
        self._body: list[bytes] | None = None
        self._digest: Any = None
        self._answer: Callable[[], None] | None = None  # set while a body is being received

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=64 << 20)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 (the protocol's signature)
        return self._store.scratch

    def buffer_updated(self, nbytes: int) -> None:
        start = 0
        while start < nbytes:
            start = self._receive(start, nbytes) if self._answer else self._begin(start, nbytes)

    def _begin(self, start: int, end: int) -> int:
        if self._pending:
            found = (self._pending[-3:] + self._store.scratch[start:end]).find(b"\r\n\r\n")
            stop = start + found - len(self._pending[-3:]) + 4 if found >= 0 else -1
        else:
            stop = self._store.scratch.find(b"\r\n\r\n", start, end) + 4
            stop = -1 if stop == 3 else stop
        if stop < 0:
            self._pending += self._view[start:end].tobytes()
            return end
        head = self._pending + self._view[start:stop].tobytes()
        self._pending = b""
        self._route(head.decode("latin-1"))
        return stop

    def _receive(self, start: int, end: int) -> int:
        stop = min(end, start + self._left)
        if self._digest is not None:
            self._digest.update(self._view[start:stop])
        if self._body is not None:
            self._body.append(self._view[start:stop].tobytes())
        self._left -= stop - start
        if self._left == 0:
            self._finish()
        return stop

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        if answer:
            answer()

    def _route(self, head: str) -> None:
        method, target, _ = head.split(" ", 2)
        path, _, query = target.partition("?")
        headers = head.lower()
        self._left = int(_header(headers, "content-length") or 0)
        self._body = self._digest = None
        if "\r\ntransfer-encoding:" in headers:
            self._left = 0
            self._send_error(501, "NotImplemented")
            self._transport.close()
            return
        self._answer = self._answer_to(method, path, query, head, headers)
        if "\r\nexpect: 100-continue" in headers and self._left:
            self._transport.write(_CONTINUE)
        if self._left == 0:
            self._finish()

    def _answer_to(self, method: str, path: str, query: str, head: str, headers: str) -> Callable[[], None]:
        if method == "PUT":
            return self._put(path, query, head, headers)
        if path == _CONTROL:
            self._body = []
            return self._control
        if method in {"GET", "HEAD"}:
            if path.strip("/").count("/") == 0:
                return lambda: self._list(method, query)
            return lambda: self._get(path, headers, head_only=method == "HEAD")
        if method == "POST":
            self._body = []
            return lambda: self._post(path, query)
        self._store.count("delete")
        return lambda: self._send(204)

    # -- writing

    def _put(self, path: str, query: str, head: str, headers: str) -> Callable[[], None]:
        store, size = self._store, self._left
        kind = "upload_part" if "partNumber=" in query else "put"
        store.count(kind)
        store.count("bytes_written", size)
        expected = ""
        if store.verify and (at := headers.find("\r\nx-amz-checksum-sha256:")) >= 0:
            expected = head[at + 24 : head.index("\r\n", at + 24)].strip()
            self._digest = hashlib.sha256()
        if kind == "put" and 0 < size <= store.keep_bytes:
            self._body = []
        return lambda: self._store_put(path, expected)

    def _store_put(self, path: str, expected: str) -> None:
        if expected and base64.b64encode(self._digest.digest()).decode() != expected:
            self._send_error(400, "BadDigest")
            return
        if self._body is not None:
            self._store.kept[unquote(path.strip("/").partition("/")[2])] = b"".join(self._body)
        serial = self._store.serial()
        text = (
            f'HTTP/1.1 200 OK\r\nETag: "{serial}"\r\nx-amz-version-id: {serial}\r\nContent-Length: 0\r\n\r\n'
        ).encode()
        if self._store.put_delay:
            asyncio.get_running_loop().call_later(self._store.put_delay, self._transport.write, text)
        else:
            self._transport.write(text)

    def _post(self, path: str, query: str) -> None:
        store = self._store
        if query.startswith("delete"):
            store.count("delete_objects")
            self._send(200, f"{_XML}<DeleteResult/>")
        elif query.startswith("uploads"):
            store.count("create_multipart_upload")
            bucket, _, key = path.strip("/").partition("/")
            self._send(
                200,
                f"{_XML}<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>"
                f"<UploadId>{store.serial()}</UploadId></InitiateMultipartUploadResult>",
            )
        elif "uploadId=" in query:
            store.count("complete_multipart_upload")
            self._send(
                200,
                f"{_XML}<CompleteMultipartUploadResult><ETag>&quot;{store.serial()}-1&quot;</ETag>"
                "</CompleteMultipartUploadResult>",
            )
        else:
            self._send_error(501, "NotImplemented")

    # -- reading

    def _get(self, path: str, headers: str, *, head_only: bool) -> None:
        store = self._store
        store.count("head" if head_only else "get")
        found = store.open(unquote(path.strip("/").partition("/")[2]))
        if found is None:
            self._send_error(404, "NoSuchKey")
            return
        data, etag = found
        if (wanted := _header(headers, "if-match")) and wanted.strip('"') not in {"*", etag.strip('"')}:
            self._send_error(412, "PreconditionFailed")
            return
        size = len(data)
        span = _span(_header(headers, "range"), size)
        if span is None:
            self._send_error(416, "InvalidRange")
            return
        first, end = span
        status = 206 if _header(headers, "range") else 200
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"ETag: {etag}", f"Content-Length: {end - first}"]
        lines += [f"Last-Modified: {_MODIFIED}", "x-amz-version-id: 1", "Accept-Ranges: bytes"]
        lines += ["Content-Type: application/octet-stream"]
        if status == 206:
            lines.append(f"Content-Range: bytes {first}-{end - 1}/{size}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode())
        if not head_only and end > first:
            store.count("bytes_read", end - first)
            self._transport.write(memoryview(data)[first:end])

    def _list(self, method: str, query: str) -> None:
        self._store.count("list" if method == "GET" else "head")
        if method == "HEAD":
            self._send(200)
        elif query.startswith("uploads") or "&uploads" in query:
            self._send(200, f"{_XML}<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
                            "</ListMultipartUploadsResult>")  # fmt: skip
        elif "versions" in query:
            prefix = parse_qs(query).get("prefix", [""])[0]
            versions = "".join(
                f"<Version><Key>{key}</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></Version>"
                for key in self._store.kept
                if key.startswith(prefix)
            )
            self._send(200, f"{_XML}<ListVersionsResult><IsTruncated>false</IsTruncated>{versions}"
                            "</ListVersionsResult>")  # fmt: skip
        else:
            self._send(200, f"{_XML}<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    # -- everything else

    def _control(self) -> None:
        values = json.loads(b"".join(self._body or ()) or b"{}")
        self._send(200, json.dumps(self._store.configure(values)), kind="application/json")

    def _send_error(self, status: int, code: str) -> None:
        text = f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self._send(status, text)

    def _send(self, status: int, text: str = "", *, kind: str = "application/xml") -> None:
        body = text.encode()
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        if status != 204:
            head += f"Content-Length: {len(body)}\r\n"
        self._transport.write(f"{head}\r\n".encode() + body)


def _header(headers: str, name: str) -> str:
    at = headers.find(f"\r\n{name}:")
    if at < 0:
        return ""
    start = at + len(name) + 3
    return headers[start : headers.index("\r\n", start)].strip()


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Return first byte and end of a `Range` header; None if no byte of it exists."""
    if not text:
        return 0, size
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return (max(size - int(last), 0), size) if size else None
    end = min(int(last) + 1, size) if last else size
    return (int(first), end) if int(first) < end else None


async def _serve(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    store = Store(folder)
    server = await loop.create_server(lambda: Connection(store), "127.0.0.1", 0, backlog=512)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)  # whoever started us holds the other end
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


class StandIn:
    """The stand-in in a process of its own, which ends with the block and with this process."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.s3_stand_in", "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def configure(self, **values: Any) -> dict[str, Any]:
        """Change settings (`put_delay_ms`, `keep_bytes`, `verify`, `reset`); return counters and CPU time."""
        with self._opener.open(f"{self.url}{_CONTROL}", data=json.dumps(values).encode()) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its standard input, which ends it


# ---- what it can do itself


def ceiling(s3: StandIn, folder: Path, *, connections: int = 8, rounds: int = 5) -> dict[str, float]:
    """Measure it with clients that do nothing but write and read sockets: the bench cannot go faster."""
    big = folder / "ceiling.bin"
    big.write_bytes(bytes(64 << 20))
    try:
        puts = max(_put_rate(s3.port, connections, 2000) for _ in range(rounds))
        gets = max(_get_rate(s3.port, big) for _ in range(rounds))
        writes = max(_write_rate(s3.port) for _ in range(rounds))
    finally:
        big.unlink()
    return {"puts_per_second_1kb": puts, "get_mb_per_second": gets, "put_mb_per_second_8mb": writes}


def _put_rate(port: int, connections: int, each: int) -> float:
    """Every connection has one request under way; one thread serves them all, so that ours costs little."""
    request = b"PUT /packages/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
    sockets = [_connect(port) for _ in range(connections)]
    start = time.perf_counter()
    for _ in range(each):
        for connection in sockets:
            connection.sendall(request)
        for connection in sockets:
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("the stand-in refused a PUT")
    seconds = time.perf_counter() - start
    for connection in sockets:
        connection.close()
    return each * connections / seconds


def _get_rate(port: int, file: Path) -> float:
    buffer, size = bytearray(1 << 20), file.stat().st_size
    with _connect(port) as connection:
        start = time.perf_counter()
        connection.sendall(f"GET /incoming/{file.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = 0
        while received < size:  # the head is some 200 bytes, which do not matter here
            received += connection.recv_into(buffer)
        return size / (time.perf_counter() - start) / 1e6


def _write_rate(port: int) -> float:
    body = bytes(8 << 20)
    head = f"PUT /packages/k HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with _connect(port) as connection:
        start = time.perf_counter()
        for _ in range(10):
            connection.sendall(head)
            connection.sendall(body)
            connection.recv(4096)
        return 10 * len(body) / (time.perf_counter() - start) / 1e6


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main() -> int:
    """Serve (`--serve DIR`, for `StandIn`), or print the stand-in's own ceiling."""
    parser = argparse.ArgumentParser(description="an S3 for measuring")
    parser.add_argument("--serve", type=Path, metavar="DIR", help="serve the files of DIR until stdin closes")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(_serve(arguments.serve))
        return 0
    with tempfile.TemporaryDirectory() as name, StandIn(Path(name)) as s3:
        found = ceiling(s3, Path(name))
    print("the stand-in's own ceiling, from a raw client on the same machine:")
    print(f"  {found['puts_per_second_1kb']:10,.0f} PUT/s of 1 KB (8 connections)")
    print(f"  {found['put_mb_per_second_8mb']:10,.0f} MB/s written in PUTs of 8 MiB")
    print(f"  {found['get_mb_per_second']:10,.0f} MB/s read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
