"""What one PUT costs with each client that could write our objects: `python -m bench.object_writers`.

CPU time is that of the client's process (all its threads); wall time is per PUT, from one thread and from
sixteen. Every client sends a SHA-256 that S3 would check. The rounds of all clients take turns against one
stand-in, and medians count. The decision drawn from it: docs/decisions/0004-object-writer.md.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import boto3
import obstore
import urllib3
from awscrt import auth, http, io, s3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from obstore.store import S3Store

from bench import results
from bench.results import median
from bench.s3_stand_in import StandIn, ceiling

SIZES: Final = {
    "1 KB": (1_000, 1_000),
    "100 KB": (100_000, 400),
    "1 MB": (1_000_000, 100),
    "8 MB": (8 << 20, 16),
}
THREADS: Final = (1, 16)
_BUCKET: Final = "packages"
_REGION: Final = "us-east-1"
_KEY, _SECRET = "bench", "bench"
_TIMEOUT: Final = 30

Put = Callable[[str, bytes], None]


def boto3_default(url: str) -> Put:
    """Return a PUT by a client as `boto3.client("s3")` makes it, with room for sixteen connections."""
    client = _boto3_client(url, Config(max_pool_connections=16))
    return partial(_boto3_put, client)


def boto3_tuned(url: str) -> Put:
    """Return a PUT by a client without what costs most: own checksums, checks of parameters."""
    config = Config(
        max_pool_connections=16,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
        s3={"addressing_style": "path", "payload_signing_enabled": False},
    )
    return partial(_boto3_put, _boto3_client(url, config))


def _boto3_client(url: str, config: Config) -> Any:
    session = boto3.session.Session(_KEY, _SECRET, region_name=_REGION)
    return session.client("s3", endpoint_url=url, config=config)


def _boto3_put(client: Any, key: str, data: bytes) -> None:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
    client.put_object(Bucket=_BUCKET, Key=key, Body=data, ChecksumSHA256=digest)


def obstore_put(url: str) -> Put:
    """Return a PUT by obstore: Rust's object_store, with connections, retries and signing of its own."""
    store = S3Store(
        _BUCKET,
        endpoint=url,
        region=_REGION,
        access_key_id=_KEY,
        secret_access_key=_SECRET,
        checksum_algorithm="SHA256",
        client_options={"allow_http": True},
    )

    def put(key: str, data: bytes) -> None:
        obstore.put(store, key, data, use_multipart=False)

    return put


def awscrt_put(url: str) -> Put:
    """Return a PUT by the S3 client of the AWS Common Runtime (written in C)."""
    provider = auth.AwsCredentialsProvider.new_static(_KEY, _SECRET)
    client = s3.S3Client(
        bootstrap=io.ClientBootstrap.get_or_create_static_default(),
        region=_REGION,
        tls_mode=s3.S3RequestTlsMode.DISABLED,
        signing_config=s3.create_default_s3_signing_config(region=_REGION, credential_provider=provider),
        multipart_upload_threshold=64 << 20,
    )
    host = url.removeprefix("http://")

    def put(key: str, data: bytes) -> None:
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
        headers = http.HttpHeaders(
            [("Host", host), ("Content-Length", str(len(data))), ("x-amz-checksum-sha256", digest)]
        )
        request = http.HttpRequest("PUT", f"/{_BUCKET}/{key}", headers, io.InputStream(_Reader(data)))
        over, faults = Event(), []

        def on_done(error: Exception | None, **_: Any) -> None:
            faults.append(error)
            over.set()

        # Named, so that the request is not collected before it has ended.
        sent = client.make_request(
            type=s3.S3RequestType.DEFAULT, operation_name="PutObject", request=request, on_done=on_done
        )
        over.wait(_TIMEOUT)
        del sent
        if faults != [None]:
            raise RuntimeError(f"awscrt could not PUT: {faults}")

    return put


class _Reader:
    """A stream over bytes: `io` is a module of awscrt in this file."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def read(self, length: int) -> memoryview:
        piece = self._data[self._at : self._at + length]
        self._at += len(piece)
        return piece

    def readinto(self, buffer: memoryview) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at


class _Signer(S3SigV4Auth):
    """Signs the digest that the checksum needs anyway instead of hashing the body once more."""

    def payload(self, request: AWSRequest) -> str:
        digest: str = request.context["payload"]
        return digest


def signed_put(url: str) -> Put:
    """Return a PUT by botocore's signer over urllib3's pool: the least Python that still signs officially."""
    pool = urllib3.HTTPConnectionPool(*_place(url), maxsize=16, retries=False, timeout=_TIMEOUT)
    signer = _Signer(Credentials(_KEY, _SECRET), "s3", _REGION)

    def put(key: str, data: bytes) -> None:
        digest = hashlib.sha256(data)
        path = f"/{_BUCKET}/{key}"
        request = AWSRequest("PUT", url + path)
        request.headers["x-amz-checksum-sha256"] = base64.b64encode(digest.digest()).decode("ascii")
        request.context["payload"] = digest.hexdigest()
        signer.add_auth(request)
        answer = pool.urlopen("PUT", path, body=data, headers=dict(request.headers.items()))
        if answer.status != 200:
            raise RuntimeError(f"urllib3: status {answer.status}")

    return put


def _place(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


WRITERS: Final[dict[str, Callable[[str], Put]]] = {
    "boto3 default": boto3_default,
    "boto3 tuned": boto3_tuned,
    "obstore": obstore_put,
    "awscrt S3 client": awscrt_put,
    "botocore signer + urllib3": signed_put,
}


def measure(runs: int) -> dict[str, Any]:
    """Return CPU µs and wall µs per PUT by size, number of threads and client."""
    with tempfile.TemporaryDirectory() as name, StandIn(Path(name)) as stand_in:
        folder = Path(name)
        puts = {title: make(stand_in.url) for title, make in WRITERS.items()}
        table: dict[str, Any] = {}
        for size, (length, count) in SIZES.items():
            data = bytes(length)
            for threads in THREADS:
                taken: dict[str, list[tuple[float, float]]] = {title: [] for title in puts}
                with ThreadPoolExecutor(threads) as pool:
                    for put in puts.values():
                        _round(put, data, threads * 2, pool)  # opens the connections
                    for _ in range(runs):
                        for title, put in puts.items():
                            taken[title].append(_round(put, data, count, pool))
                table[f"{size}, {threads} threads" if threads > 1 else f"{size}, 1 thread"] = {
                    title: {
                        "cpu_us": median([cpu for cpu, _ in rounds]),
                        "wall_us": median([wall for _, wall in rounds]),
                    }
                    for title, rounds in taken.items()
                }
        return {"runs": runs, "table": table, "ceiling": ceiling(stand_in, folder)}


def _round(put: Put, data: bytes, count: int, pool: ThreadPoolExecutor) -> tuple[float, float]:
    """Return CPU and wall time per PUT in microseconds."""
    usage, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    list(pool.map(lambda number: put(f"bench/{number}", data), range(count)))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return cpu / count * 1e6, wall / count * 1e6


def main() -> int:
    """Measure and print."""
    arguments = results.arguments("what one PUT costs with each client").parse_args()
    found = measure(arguments.runs)
    print(results.machine())
    print(f"the stand-in alone: {1e6 / found['ceiling']['puts_per_second_1kb']:.0f} µs a PUT of 1 KB\n")
    print(f"{'µs of CPU (of wall time) per PUT':36}" + "".join(f"{title:>27}" for title in WRITERS))
    for row, figures in found["table"].items():
        cells = (f"{figures[title]['cpu_us']:,.0f} ({figures[title]['wall_us']:,.0f})" for title in WRITERS)
        print(f"{row:36}" + "".join(f"{cell:>27}" for cell in cells))
    if arguments.save:
        results.save("object_writers", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
