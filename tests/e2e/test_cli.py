"""The installed `veripost` command against the deployed cloud, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.bootstrap import clean_environment, python_of
from localcloud.cloud import Cloud
from veripost_cli.exits import Exit

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = python_of("cli").with_name("veripost")


@pytest.fixture
def run(cloud: Cloud, api: ApiClient, tmp_path: Path) -> Run:
    """Runs the command with a home of its own and the key in the environment."""
    assert COMMAND.exists(), "`make cli` installs it"
    environment = clean_environment(os.environ) | {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "VERIPOST_URL": cloud.api_url,
        "VERIPOST_API_KEY": str(api.key),
    }

    def invoke(*arguments: object, said: str = "", **others: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *(str(argument) for argument in arguments)],
            env=environment | others,
            cwd=tmp_path,
            input=said,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return invoke


def _files() -> dict[str, bytes]:
    return samples.post_processor(f"MILL_{uuid4().hex[:8].upper()}", sections=60)


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / f"{next(iter(files)).removesuffix('.SRC')}.zip"
    path.write_bytes(samples.zip_of(files, folder="posts/"))
    return path


def _lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_packages_go_up_and_come_back(run: Run, tmp_path: Path) -> None:
    files = _files()
    archive, other = _write(tmp_path, files), _write(tmp_path, _files())

    sent = run("upload", "--wait", "--json", archive, other)
    assert sent.returncode == Exit.OK, sent.stderr
    told, _ = _lines(sent)
    package_id = told["package_id"]
    assert told["status"]["status"] == "ready"

    listed = run("list", "--json", "--limit", 2)
    assert package_id in {line["id"] for line in _lines(listed)}
    (shown,) = _lines(run("show", "--json", package_id))
    assert {file["filename"] for file in shown["files"]} == set(files)
    assert shown["content_hash"] == told["sha256"]
    assert f"{archive.stem}  ready" in run("show", package_id).stdout

    here = tmp_path / "here"
    some = run("download", package_id, "*.src", "-o", here)
    assert some.returncode == Exit.OK, some.stderr
    assert [path.name for path in here.iterdir()] == [archive.with_suffix(".SRC").name]
    assert run("verify", package_id, here).returncode == Exit.REFUSED
    assert run("download", package_id, "--all", "-o", here).returncode == Exit.OK
    assert {path.name: path.read_bytes() for path in here.iterdir()} == files
    assert run("verify", package_id, here).returncode == Exit.OK
    assert run("download", package_id, "--original", "-o", tmp_path / "again").returncode == Exit.OK
    assert (tmp_path / "again" / archive.name).read_bytes() == archive.read_bytes()

    assert run("replay", "--wait", package_id).returncode == Exit.OK
    gone = run("rm", "--yes", "--wait", package_id)
    assert gone.returncode == Exit.OK, gone.stderr
    assert run("show", package_id).returncode == Exit.NOT_FOUND
    assert run("rm", "--yes", package_id).returncode == Exit.OK


def test_bytes_that_are_there_already_are_not_sent_and_a_package_comes_as_one_zip(
    run: Run, tmp_path: Path
) -> None:
    files = _files()
    archive = _write(tmp_path, files)
    (first,) = _lines(run("upload", "--wait", "--json", archive))
    (second,) = _lines(run("upload", "--wait", "--json", archive))
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert second["package_id"] == first["package_id"]

    these = ("--sha256", first["sha256"], "--extension", "kin", "--sort", "name")
    found = run("list", *these, "--since", "1h", "--json")
    assert [line["id"] for line in _lines(found)] == [first["package_id"]]
    assert run("list", *these, "--until", "1h").stdout == ""

    bundle = run("download", first["package_id"], "--zip", "--json", "-o", tmp_path / "z")
    assert bundle.returncode == Exit.OK, bundle.stderr
    (saved,) = _lines(bundle)
    with zipfile.ZipFile(saved["path"]) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == files


def test_a_folder_becomes_a_package(run: Run, tmp_path: Path) -> None:
    files = _files()
    folder = tmp_path / "post"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    assert run("check", folder).returncode == Exit.OK
    sent = run("upload", "--zip", "--wait", folder)
    assert sent.returncode == Exit.OK, sent.stderr
    assert "ready, 7 files" in sent.stdout


def test_what_is_checked_here_is_what_the_server_says(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(
        samples.zip_of({"a.txt": b"x", "b/C.LIB": b"x", "c.lib": uuid4().bytes, ".DS_Store": b""})
    )
    checked = run("check", "--json", path)
    sent = run("upload", "--wait", "--json", path)
    assert (checked.returncode, sent.returncode) == (Exit.REFUSED, Exit.REFUSED)
    here, there = _lines(checked)[0]["problems"], _lines(sent)[0]["status"]["problems"]
    assert here == there
    assert {problem["code"] for problem in here} == {
        "forbidden_extension",
        "name_collision",
        "junk_skipped",
        "required_file_missing",
    }
    assert "(required_file_missing)" in run("upload", "--wait", path).stdout


def test_nobody_answers(run: Run, tmp_path: Path) -> None:
    archive = _write(tmp_path, _files())
    for arguments in (["list"], ["upload", archive], ["download", uuid4(), "--all"]):
        done = run(*arguments, VERIPOST_URL="http://127.0.0.1:1/api")
        assert done.returncode == Exit.UNAVAILABLE
        assert "127.0.0.1:1 does not answer" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_key_opens_nothing(run: Run, tmp_path: Path) -> None:
    for arguments in (["list"], ["upload", _write(tmp_path, _files())], ["keys", "list"]):
        done = run(*arguments, VERIPOST_API_KEY="vp_wrong")
        assert done.returncode == Exit.NOT_ALLOWED
        assert "veripost login" in done.stderr


def test_a_key_that_may_only_read(run: Run, tmp_path: Path) -> None:
    made = run("keys", "create", "reader", "--scope", "read", "--days", 1, "--json")
    assert made.returncode == Exit.OK, made.stderr
    (key,) = _lines(made)
    reader = {"VERIPOST_API_KEY": key["key"]}
    assert run("list", **reader).returncode == Exit.OK
    refused = run("upload", _write(tmp_path, _files()), **reader)
    assert refused.returncode == Exit.NOT_ALLOWED
    assert "write" in refused.stderr
    assert key["id"] in {line["id"] for line in _lines(run("keys", "list", "--json"))}
    assert run("keys", "revoke", key["id"]).returncode == Exit.OK


def test_login_is_what_the_next_command_uses(run: Run, cloud: Cloud, api: ApiClient) -> None:
    nothing = {"VERIPOST_URL": "", "VERIPOST_API_KEY": ""}
    assert run("list", **nothing).returncode == Exit.USAGE
    told = run("login", cloud.api_url, "--key-stdin", said=f"{api.key}\n", **nothing)
    assert told.returncode == Exit.OK, told.stderr
    assert str(api.key) not in told.stdout + told.stderr
    assert run("list", **nothing).returncode == Exit.OK
