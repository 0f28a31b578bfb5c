"""`make demo`: boots a local cloud, takes packages through all three doors, shows what happens, cleans up.

Exits with 0 only if every good package came back byte for byte and every bad one was refused as it should.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localcloud import cloud as local
from localcloud import samples
from localcloud.api_client import Answer, ApiClient
from localcloud.bootstrap import LOCAL
from localcloud.progress import CommandError, say

_WIDTH = 100


class Tally:
    """What was promised, and whether it held."""

    def __init__(self) -> None:
        self.held = 0
        self.broken: list[str] = []

    def check(self, promise: str, held: bool) -> None:
        """Print and count one promise."""
        say(f"    {'✓' if held else '✗ BROKEN:'} {promise}")
        if held:
            self.held += 1
        else:
            self.broken.append(promise)


def main() -> int:
    """Run the demo; return the exit code."""
    started = time.monotonic()
    LOCAL.mkdir(exist_ok=True)
    state = Path(tempfile.mkdtemp(prefix="demo-", dir=LOCAL))
    tally = Tally()
    try:
        _title("Booting a local AWS (Postgres, LocalStack) and deploying template.yaml to it")
        with local.running(state, fsync=False) as cloud:
            # As `make key` does it: no key is there by default.
            api = ApiClient(cloud.api_url, cloud.mint_key("demo", "write"))
            say(f"  API: {cloud.api_url}")
            say(f"  GET /v1/health: {_expect(api.get('/v1/health'), 200)}")
            _show_doors(cloud, api, tally)
            _show_refusals(cloud, api, tally)
            _title("Shutting the local cloud down")
    except (CommandError, local.CloudError, TimeoutError, ConnectionError) as error:
        say(f"\nThe demo could not go on: {error}")
        return 1
    finally:
        shutil.rmtree(state, ignore_errors=True)
    say("  nothing is left running")
    _title(f"{tally.held} promises held, {len(tally.broken)} broken, in {time.monotonic() - started:.0f} s")
    for promise in tally.broken:
        say(f"  ✗ {promise}")
    if not tally.broken:
        say("  Try it yourself: `make up` starts a local cloud and prints its URL; `make down` ends it.")
    return 1 if tally.broken else 0


def _show_doors(cloud: local.Cloud, api: ApiClient, tally: Tally) -> None:
    files, data = _package("HAAS_VF4", macros=200)
    with _door(1, "presigned URL: POST /v1/packages, then a form straight to S3", data):
        announced = _expect(api.announce("HAAS_VF4.zip", data), 202)
        with Watch(api, announced["package_id"]) as watch:
            api.send_form(announced["upload"], data)
        _show_package(api, watch, files, data, tally)

    files, data = _package("DMG_NLX2500")
    with _door(2, "bucket drop: aws s3 cp DMG_NLX2500.zip s3://incoming/drops/camworks/", data):
        key = "drops/camworks/DMG_NLX2500.zip"
        bucket = cloud.outputs["IncomingBucketName"]
        cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=data)
        with Watch(api, api.wait_for_drop(key)) as watch:
            pass
        _show_package(api, watch, files, data, tally)

    files, data = _package("MAZAK_I400")
    with _door(3, "API upload: curl -F file=@MAZAK_I400.zip …/v1/packages/upload", data):
        with Watch(api, _expect(api.upload("MAZAK_I400.zip", data), 202)["package_id"]) as watch:
            pass
        _show_package(api, watch, files, data, tally)


class Watch:
    """Prints a package's states as they happen, while the block runs and until the state is final.

    A state can be shorter than the time between two polls; it is then not seen.
    """

    def __init__(self, api: ApiClient, package_id: str) -> None:
        self.package_id = package_id
        self.final: Any = None
        self._api = ApiClient(api.api_url, api.key)  # a connection of its own, for a thread of its own
        self._started = time.monotonic()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Watch:
        say(f"    package {self.package_id}")
        self._polls = self._thread.submit(self._api.wait, self.package_id, every=0.002, on_change=self._say)
        return self

    def __exit__(self, *_: object) -> None:
        self.final = self._polls.result()
        self._thread.shutdown()

    def _say(self, state: str) -> None:
        say(f"    {(time.monotonic() - self._started) * 1000:6.0f} ms  {state}")


def _show_package(
    api: ApiClient, watch: Watch, files: Mapping[str, bytes], data: bytes, tally: Tally
) -> None:
    tally.check(f"the package is {watch.final['status']}", watch.final["status"] == "ready")
    detail = api.get(f"/v1/packages/{watch.package_id}").json
    recorded = list(_all_files(api, watch.package_id))
    say(f"    {detail['name']}: {detail['file_count']} files")
    shown = [file for file in recorded if file["file_extension"] != ".LIB"]
    for file in shown:
        sha256 = file["content_hash"][:24]
        say(f"      {file['filename']:<20} {file['size_bytes']:>8,} bytes   sha256 {sha256}…")
    say(f"      and {len(recorded) - len(shown)} .LIB")
    skipped = sum(problem["severity"] == "notice" for problem in detail["problems"])
    say(f"    {skipped} files that macOS had added were skipped, with a notice each")
    one = next(file for file in recorded if file["file_extension"] == ".CTL")
    got = api.download(f"/v1/packages/{watch.package_id}/files/{one['id']}/download")
    tally.check(f"{one['filename']} comes back byte for byte", got == files[one["filename"]])
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    tally.check(
        "every file is recorded with its SHA-256",
        {file["filename"]: file["content_hash"] for file in recorded} == expected,
    )
    archive = api.download(f"/v1/packages/{watch.package_id}/archive")
    tally.check("the original ZIP comes back byte for byte", archive == data)


def _all_files(api: ApiClient, package_id: str) -> Iterator[Any]:
    """Yield every file of a package, page by page."""
    cursor = ""
    while True:
        page = api.get(f"/v1/packages/{package_id}/files?limit=200{cursor}").json
        yield from page["files"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def _show_refusals(cloud: local.Cloud, api: ApiClient, tally: Tally) -> None:
    good = samples.post_processor("OKUMA_B250", sections=40)
    sourceless = {name: content for name, content in good.items() if not name.endswith(".SRC")}
    _title("Three packages that must not get in")

    say("  a text file that somebody renamed to .zip, by API upload")
    answer = api.upload("readme.zip", b"Dear colleague, the post is in the other mail.\n" * 20)
    _show_refusal(answer.json)
    tally.check(
        "it is refused with 400 not_a_zip", (answer.status, answer.json.get("code")) == (400, "not_a_zip")
    )

    say("  a package without its .SRC, by bucket drop")
    key = "drops/camworks/OKUMA_B250.zip"
    cloud.client("s3").put_object(
        Bucket=cloud.outputs["IncomingBucketName"], Key=key, Body=samples.zip_of(sourceless)
    )
    package_id = api.wait_for_drop(key)
    final = api.wait(package_id)
    _show_refusal(
        {"message": final["error_message"], "detail": final["error_detail"], "problems": final["problems"]}
    )
    tally.check(
        "its state is error, with required_file_missing",
        (final["status"], final["error_code"]) == ("error", "required_file_missing"),
    )
    left = cloud.client("s3").list_object_versions(
        Bucket=cloud.outputs["PackageBucketName"], Prefix=f"packages/{package_id}/"
    )
    tally.check("nothing of it is left in the package bucket", "Versions" not in left)

    say("  a package with an NC program in it, by API upload")
    answer = api.upload(
        "OKUMA_B250.zip", samples.zip_of(good | {"O1001.NC": b"%\nO1001\nG0 X0 Y0\nM30\n%\n"})
    )
    _show_refusal(answer.json)
    tally.check(
        "it is refused with 422 forbidden_extension",
        (answer.status, answer.json.get("code")) == (422, "forbidden_extension"),
    )


def _show_refusal(answer: Mapping[str, Any]) -> None:
    say(f"    message: {answer['message']}")
    say(f"    detail:  {answer['detail']}")
    for problem in answer.get("problems") or ():
        if problem["hint"]:
            say(f"    hint:    {problem['hint']}")


def _package(stem: str, *, macros: int = 0) -> tuple[dict[str, bytes], bytes]:
    """A post processor (and its shop's macro libraries) zipped on a Mac with its folder, as people do."""
    files = samples.post_processor(stem)
    for number in range(macros):
        files[f"MACRO_{number:03d}.LIB"] = (
            f":SECTION=MACRO_{number:03d}\r\n:T:<N><M:{number:02d}><EOL>\r\n".encode()
        )
    litter = {f"__MACOSX/{stem}/._{name}": b"\0\5\26\7" + bytes(100) for name in samples.post_processor(stem)}
    return files, samples.zip_of({f"{stem}/{name}": data for name, data in files.items()} | litter)


@contextmanager
def _door(number: int, what: str, data: bytes) -> Iterator[None]:
    _title(f"Door {number}: {what}")
    say(f"    sending {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()[:32]}…")
    yield


def _expect(answer: Answer, status: int) -> Any:
    if answer.status != status:
        raise ConnectionError(f"the API answered {answer.status}: {answer.body.decode(errors='replace')}")
    return answer.json


def _title(text: str) -> None:
    say(f"\n── {text} {'─' * max(0, _WIDTH - len(text) - 4)}")


if __name__ == "__main__":
    sys.exit(main())
