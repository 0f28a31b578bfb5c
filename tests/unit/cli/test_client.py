"""The client against real sockets: what it sends, when it tries again, and what it makes of errors."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.unit.cli.stand_in import KEY, Fault, StandIn, problem
from veripost_client import (
    Client,
    Conflict,
    InvalidRequest,
    Mismatch,
    NotAllowed,
    NotFound,
    PackageFilter,
    Refused,
    Retry,
    State,
    TargetExists,
    Unavailable,
    UnexpectedAnswer,
    Unfinished,
    UnsafeName,
)
from veripost_client.retry import retry_after
from veripost_client.targets import target_in


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "MILL.zip"
    path.write_bytes(b"PK" + bytes(range(256)) * 4000)
    return path


# -- uploading


def test_an_upload_carries_the_hash_and_is_followed_to_its_end(
    client: Client, server: StandIn, archive: Path
) -> None:
    seen: list[int] = []
    states: list[str] = []

    landed = client.upload(archive, on_progress=seen.append)
    status = client.wait(landed.package_id, on_change=lambda status: states.append(status.status))

    assert landed.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert not landed.resumed
    assert server.packages[str(landed.package_id)].data == archive.read_bytes()
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] == archive.stat().st_size
    assert len(seen) > 4, "it is read in pieces"
    assert states == ["pending", "parsing", "ready"]
    assert status.status == "ready"


def test_connections_are_reused(client: Client, server: StandIn, archive: Path) -> None:
    client.wait(client.upload(archive).package_id)
    list(client.packages())
    assert len(server.requests) >= 5
    assert server.connections == 1


def test_a_form_that_did_not_arrive_is_sent_again_for_the_same_package(
    client: Client, server: StandIn, archive: Path, waits: list[float]
) -> None:
    server.faults += [Fault("POST /store/"), Fault("POST /store/", status=503)]
    landed = client.upload(archive)
    assert server.packages[str(landed.package_id)].data == archive.read_bytes()
    assert server.count("POST /api/v1/packages$") == 1
    assert len(waits) == 2


def test_an_upload_that_was_interrupted_becomes_no_second_package(
    client: Client, server: StandIn, archive: Path
) -> None:
    server.faults.append(Fault("POST /store/", times=5))
    with pytest.raises(Unavailable):
        client.upload(archive)
    landed = client.upload(archive)
    assert landed.resumed
    assert len(server.packages) == 1
    assert not client.upload(archive).resumed, "what was finished is not gone on with"
    assert len(server.packages) == 2


def test_what_landed_after_all_is_not_sent_again(client: Client, server: StandIn, archive: Path) -> None:
    server.faults.append(Fault("POST /store/", times=5))
    with pytest.raises(Unavailable):
        client.upload(archive)
    (package,) = server.packages.values()
    package.data, package.path = archive.read_bytes(), ["parsing"]
    assert client.upload(archive).package_id == package.id
    assert server.count("POST /store/") == 0


@pytest.mark.parametrize("state", ["error", "deleting", None])
def test_a_package_that_came_to_an_end_is_not_gone_on_with(
    client: Client, server: StandIn, archive: Path, state: str | None
) -> None:
    server.faults.append(Fault("POST /store/", times=5))
    with pytest.raises(Unavailable):
        client.upload(archive)
    (package,) = server.packages.values()
    package.data, package.path = b"", [state or ""]
    if state is None:
        server.packages.clear()
    assert not client.upload(archive).resumed


def test_the_same_bytes_twice_at_once_are_two_packages(
    client: Client, server: StandIn, archive: Path
) -> None:
    def another(done: int) -> None:
        if done == 0 and len(server.packages) == 1:
            assert not client.upload(archive).resumed, "what is under way was not interrupted"

    assert not client.upload(archive, on_progress=another).resumed
    assert len(server.packages) == 2
    assert all(package.data == archive.read_bytes() for package in server.packages.values())


def test_a_home_that_cannot_be_written_to_hinders_nobody(server: StandIn, archive: Path) -> None:
    with Client(server.url, KEY, journal=archive / "not-a-folder") as client:
        assert not client.upload(archive).resumed


def test_the_journal_is_for_its_owner_only(
    client: Client, server: StandIn, archive: Path, tmp_path: Path
) -> None:
    server.faults.append(Fault("POST /store/", times=5))
    with pytest.raises(Unavailable):
        client.upload(archive)
    (entry,) = (tmp_path / "journal").iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


def test_an_announcement_that_may_have_arrived_is_not_repeated(
    client: Client, server: StandIn, archive: Path
) -> None:
    server.faults.append(Fault("POST /api/v1/packages$"))
    with pytest.raises(Unavailable, match="does not answer"):
        client.upload(archive)
    assert not server.packages


def test_a_file_that_changes_while_it_is_sent_is_noticed(
    client: Client, server: StandIn, archive: Path
) -> None:
    def grow(done: int) -> None:
        if done == 0:
            with archive.open("ab") as file:
                file.write(b"more")

    with pytest.raises(Mismatch, match="changed"):
        client.upload(archive, on_progress=grow)
    assert all(package.data is None for package in server.packages.values())


def test_the_store_takes_no_other_bytes(client: Client, server: StandIn, archive: Path) -> None:
    def alter(done: int) -> None:
        if done == 0:
            archive.write_bytes(bytes(archive.stat().st_size))

    with pytest.raises(Mismatch, match="changed"):
        client.upload(archive, on_progress=alter)
    assert server.count("POST /store/") == 1, "sending it again would not help"


def test_an_empty_file_is_refused_here(client: Client, server: StandIn, tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    with pytest.raises(Refused, match="empty"):
        client.upload(tmp_path / "a.zip")
    assert not server.requests


def test_waiting_ends_when_the_time_is_up(client: Client, server: StandIn) -> None:
    package = server.add({})
    package.path = ["parsing"]
    with pytest.raises(Unfinished, match="still parsing"):
        client.wait(package.id, seconds=0)


def test_waiting_for_a_replay_does_not_end_with_what_was_before(client: Client, server: StandIn) -> None:
    package = server.add({})
    job = client.replay(package.id).job_id
    assert client.wait(package.id, job_id=job).job_id == job
    with pytest.raises(Unfinished):
        client.wait(package.id, job_id=uuid4(), seconds=0)


def test_a_server_that_tells_of_news_is_asked_as_it_wishes(
    client: Client, server: StandIn, waits: list[float]
) -> None:
    server.polite = True
    package = server.add({})
    package.path = ["parsing", "parsing", "parsing", "ready"]
    states: list[str] = []
    client.wait(package.id, on_change=lambda status: states.append(status.status))
    assert states == ["parsing", "ready"]
    assert waits == [4, 4, 4]
    asked = [request.headers.get("if-none-match") for request in server.requests]
    assert asked == [None, '"parsing"', '"parsing"', '"parsing"']
    assert {request.query["wait"] for request in server.requests} == {"20"}


# -- retries and errors


def test_a_read_is_repeated_and_retry_after_is_honoured(
    client: Client, server: StandIn, waits: list[float]
) -> None:
    package = server.add({})
    server.faults += [
        Fault("/status", status=429, headers={"Retry-After": "9"}),
        Fault("/status", status=503),
        Fault("/status", status=502),
        Fault("/status"),
    ]
    assert client.status(package.id).status == "ready"
    assert len(waits) == 4
    assert waits[0] >= 9
    assert all(0.25 <= pause <= 4 for pause in waits[1:])


def test_what_must_not_happen_twice_is_repeated_only_where_nothing_was_done(
    client: Client, server: StandIn
) -> None:
    server.faults.append(Fault("POST .*/keys", status=429))
    assert client.create_key("erp", ["read"], days=3).key == "vp_new"
    server.faults.append(Fault("POST .*/keys", status=502))
    with pytest.raises(Unavailable):
        client.create_key("erp", ["read"])


def test_it_gives_up_after_so_many_attempts(client: Client, server: StandIn, waits: list[float]) -> None:
    server.faults.append(Fault("/health", times=99, status=503))
    with pytest.raises(Unavailable, match="503"):
        client.health()
    assert len(waits) == 4


def test_a_server_that_is_down_is_unavailable() -> None:
    with (
        Client("http://127.0.0.1:1/api", retry=Retry(attempts=1)) as client,
        pytest.raises(Unavailable) as told,
    ):
        client.health()
    assert told.value.code == "unreachable"
    assert "127.0.0.1:1 does not answer" in told.value.message


def test_errors_carry_what_the_server_said(client: Client, server: StandIn) -> None:
    with pytest.raises(NotFound) as told:
        client.package(uuid4())
    assert told.value.code == "package_not_found"
    assert told.value.detail == "technical"
    assert told.value.request_id == "r-1"
    server.key = "another"
    with pytest.raises(NotAllowed):
        list(client.packages())


def test_refusals_list_every_problem(client: Client, archive: Path) -> None:
    with pytest.raises(Refused) as told:
        client.upload(archive, platform="fusion")
    assert [found.code for found in told.value.problems] == ["unknown_platform"]


def test_what_is_not_veripost_is_said_to_be_so(client: Client, server: StandIn) -> None:
    server.faults.append(Fault("/health", status=200, body=b"<html>welcome</html>"))
    with pytest.raises(UnexpectedAnswer, match="up to date"):
        client.health()
    server.faults.append(Fault("/health", status=418, body=b"short and stout"))
    with pytest.raises(UnexpectedAnswer, match="418"):
        client.health()


@pytest.mark.parametrize("url", ["", "veripost", "ftp://host/api", "https://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Client(url)


def test_the_key_goes_to_veripost_only(client: Client, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"A.SRC": b"a"})
    client.download_file(package.id, next(client.files(package.id)), tmp_path)
    for request in server.requests:
        assert request.headers.get("x-api-key") == (None if "/store/" in request.path else KEY)


def test_several_threads_share_a_client(client: Client, server: StandIn) -> None:
    package = server.add({})
    threads = [threading.Thread(target=client.status, args=(package.id,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.count("/status") == 8


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), (None, None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("-1", None)],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_pauses_grow_and_have_an_end() -> None:
    retry = Retry(first=1, most=8, patience=60)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        assert longest / 2 <= retry.pause(failures) <= longest
    assert retry.pause(1, asked=30) == 30
    assert retry.pause(1, asked=3600) == 60


# -- lists


def test_lists_are_paged_and_filtered(client: Client, server: StandIn) -> None:
    for number in range(5):
        server.add({}, name=f"MILL{number}")
    chosen = PackageFilter(status="ready", created_since=datetime(2026, 1, 1, tzinfo=UTC), sort="name")
    assert [package.name for package in client.packages(chosen)] == [f"MILL{n}" for n in range(5)]
    assert [request.query.get("cursor") for request in server.requests] == [None, "2", "4"]
    for request in server.requests:
        assert request.query["status"] == "ready"
        assert request.query["created_since"] == "2026-01-01T00:00:00+00:00"
        assert request.query["sort"] == "name"
        assert "name" not in request.query


def test_no_more_pages_are_fetched_than_are_wanted(client: Client, server: StandIn) -> None:
    for _ in range(5):
        server.add({})
    assert len(list(client.packages(most=2))) == 2
    assert len(list(client.packages(most=3))) == 3
    assert server.count("GET .*/packages$") == 1 + 2


# -- downloading


def test_a_download_survives_dropped_connections_and_goes_on_where_it_was(
    client: Client, server: StandIn, tmp_path: Path, waits: list[float]
) -> None:
    data = bytes(range(256)) * 10_000
    package = server.add({"A.SRC": data})
    server.faults += [Fault("GET /store/", cut=1_000_000), Fault("GET /store/", cut=500_000)]
    seen: list[int] = []

    saved = client.download_file(
        package.id, next(client.files(package.id)), tmp_path / "new", on_progress=seen.append
    )

    assert (tmp_path / "new" / "A.SRC").read_bytes() == data
    assert saved.fresh
    assert saved.verified
    ranges = [r.headers.get("range") for r in server.requests if r.path.startswith("/store/")]
    assert ranges[0] is None
    assert all(asked and 0 < int(asked[6:-1]) <= 1_500_000 for asked in ranges[1:])
    assert len(ranges) == 3
    assert seen == sorted(seen), "nothing is fetched twice"
    assert server.count("/download") == 3, "presigned URLs are short-lived: each attempt asks for a new one"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["A.SRC"]


def test_the_next_process_goes_on_with_the_part(client: Client, server: StandIn, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    package = server.add({"A.SRC": data})
    file = next(client.files(package.id))
    # one piece comes, and then nothing any more
    server.faults += [Fault("GET /store/", cut=1_000_000), Fault("GET /store/", times=20)]
    with pytest.raises(Unavailable):
        client.download_file(package.id, file, tmp_path)
    assert not (tmp_path / "A.SRC").exists()
    (part,) = tmp_path.glob(".veripost-*.part")
    had = part.stat().st_size
    assert had > 0

    server.faults.clear()
    client.download_file(package.id, file, tmp_path)

    assert server.requests[-1].headers["range"] == f"bytes={had}-"
    assert (tmp_path / "A.SRC").read_bytes() == data
    assert not part.exists()


def test_a_store_without_ranges_is_asked_for_the_whole_again(
    client: Client, server: StandIn, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 5000
    package = server.add({"A.SRC": data})
    server.ranges = False
    server.faults.append(Fault("GET /store/", cut=700_000))
    client.download_file(package.id, next(client.files(package.id)), tmp_path)
    assert (tmp_path / "A.SRC").read_bytes() == data


def test_bytes_that_are_not_the_recorded_ones_never_appear(
    client: Client, server: StandIn, tmp_path: Path
) -> None:
    package = server.add({"A.SRC": b"as recorded"})
    file = next(client.files(package.id))
    for other in (b"as Recorded", b"as recorded, and more", b"as"):
        package.files["A.SRC"] = other
        with pytest.raises(Mismatch):
            client.download_file(package.id, file, tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_what_is_here_already_is_not_fetched_again_and_not_written_over(
    client: Client, server: StandIn, tmp_path: Path
) -> None:
    package = server.add({"A.SRC": b"recorded"})
    file = next(client.files(package.id))
    client.download_file(package.id, file, tmp_path)
    assert not client.download_file(package.id, file, tmp_path).fresh
    assert server.count("GET /store/") == 1

    (tmp_path / "A.SRC").write_bytes(b"edited by the user")
    with pytest.raises(TargetExists):
        client.download_file(package.id, file, tmp_path)
    assert (tmp_path / "A.SRC").read_bytes() == b"edited by the user"
    client.download_file(package.id, file, tmp_path, force=True)
    assert (tmp_path / "A.SRC").read_bytes() == b"recorded"


def test_a_link_in_the_folder_leads_nowhere(client: Client, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"A.SRC": b"recorded"})
    file = next(client.files(package.id))
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "A.SRC").symlink_to(outside)
    with pytest.raises(TargetExists):
        client.download_file(package.id, file, folder)
    client.download_file(package.id, file, folder, force=True)
    assert outside.read_bytes() == b"precious"
    assert (folder / "A.SRC").read_bytes() == b"recorded"
    assert not (folder / "A.SRC").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../A.SRC", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[2J", "x" * 256, "\u202e"],
)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeName) as told:
        target_in(tmp_path, name)
    assert told.value.detail is not None
    assert told.value.detail.isprintable()


@pytest.mark.parametrize("name", ["C:A.SRC", "A.SRC:stream", "NUL", "com1.SRC", "A.SRC.", "A.SRC ", "a?.SRC"])
def test_windows_forbids_more(name: str, tmp_path: Path) -> None:
    assert target_in(tmp_path, name, windows=False) == tmp_path / name
    with pytest.raises(UnsafeName):
        target_in(tmp_path, name, windows=True)


@pytest.mark.parametrize("name", ["A.SRC", "Müller 5X.src", "CONTROL.CTL", "..A", "a..b"])
def test_ordinary_names_are_left_alone(name: str, tmp_path: Path) -> None:
    assert target_in(tmp_path, name, windows=True) == tmp_path / name


def test_the_original_comes_back_as_it_was(client: Client, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"A.SRC": b"a"}, data=b"PK original")
    saved = client.download_archive(client.package(package.id), tmp_path)
    assert saved.path == tmp_path / "MILL.zip"
    assert saved.path.read_bytes() == b"PK original"
    assert saved.verified


def test_an_original_without_a_recorded_hash_is_not_called_verified(
    client: Client, server: StandIn, tmp_path: Path
) -> None:
    package = server.add({}, data=b"PK original")
    package.sha256, package.size = None, 999
    saved = client.download_archive(client.package(package.id), tmp_path)
    assert saved.path.read_bytes() == b"PK original"
    assert not saved.verified


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_bundle_is_waited_for_and_verified_file_by_file(
    client: Client, server: StandIn, tmp_path: Path, waits: list[float]
) -> None:
    files = {"A.SRC": b"a" * 1000, "B.LIB": b"b", "C.CTL": b"c"}
    package = server.add(files)
    server.bundle = _zip(files)
    saved = client.download_bundle(client.package(package.id), tmp_path)
    assert saved.verified
    assert zipfile.ZipFile(saved.path).read("A.SRC") == files["A.SRC"]
    assert waits == [3], "as Retry-After says"


@pytest.mark.parametrize(
    "files",
    [{"A.SRC": b"x"}, {}, {"A.SRC": b"a", "B.SRC": b"b"}, None],
    ids=["other", "none", "more", "no zip"],
)
def test_a_bundle_that_is_not_as_recorded_never_appears(
    client: Client, server: StandIn, tmp_path: Path, files: dict[str, bytes] | None
) -> None:
    package = server.add({"A.SRC": b"a"})
    server.bundle = b"<html>" if files is None else _zip(files)
    with pytest.raises(Mismatch):
        client.download_bundle(client.package(package.id), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_compared_with_the_record(client: Client, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"A.SRC": b"a", "B.SRC": b"b", "C.SRC": b"c"})
    (tmp_path / "A.SRC").write_bytes(b"a")
    (tmp_path / "B.SRC").write_bytes(b"B")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".veripost-1-2.part").touch()
    found = {comparison.filename: comparison.state for comparison in client.verify(package.id, tmp_path)}
    assert found == {
        "A.SRC": State.SAME,
        "B.SRC": State.DIFFERENT,
        "C.SRC": State.MISSING,
        "notes.txt": State.EXTRA,
    }


# -- changing


def test_deleting_waits_for_workers_and_for_the_end(
    client: Client, server: StandIn, waits: list[float]
) -> None:
    package = server.add({})
    server.delete_answers = [409, 202, 204]
    assert client.delete(package.id, seconds=60)
    assert waits[0] == 7
    assert len(waits) == 2


def test_deleting_does_not_wait_unless_told_to(client: Client, server: StandIn) -> None:
    package = server.add({})
    server.delete_answers = [409]
    with pytest.raises(Conflict) as told:
        client.delete(package.id)
    assert told.value.retry_after == 7
    server.delete_answers = [202]
    assert not client.delete(package.id)


def test_problems_beyond_the_first_are_paged(client: Client, server: StandIn) -> None:
    package = server.add({})
    package.error = {"problems": [problem("crc_mismatch", f"number {n}") for n in range(5)]}
    assert [found.message for found in client.problems(package.id)] == [f"number {n}" for n in range(5)]
