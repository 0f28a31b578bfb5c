"""The commands: what they print, what they send, and how they end."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner, Result

from localcloud import samples
from tests.unit.cli.stand_in import KEY, Fault, StandIn, problem
from veripost.archive.__main__ import main as archive_main
from veripost_cli import app, logins
from veripost_cli.app import COMMANDS, cli
from veripost_cli.exits import Exit
from veripost_cli.session import Session

Run = Callable[..., Result]
EVIL = "\x1b]0;owned\x07[red]\u202eCRS.A"


@pytest.fixture
def run(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command as a user who has set the environment and has a home of his own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("VERIPOST_URL", server.url)
    monkeypatch.setenv("VERIPOST_API_KEY", KEY)
    monkeypatch.setattr(Session, "sleep", lambda session, _seconds: session.check())

    def invoke(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)

    return invoke


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "MILL.zip"
    path.write_bytes(samples.zip_of(samples.post_processor("MILL", sections=4)))
    return path


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- upload


def test_upload_sends_many_and_waits_for_each(
    run: Run, server: StandIn, package: Path, tmp_path: Path
) -> None:
    others = [shutil.copy(package, tmp_path / f"{number}.zip") for number in range(5)]
    result = run("upload", "--wait", package, *others)
    assert result.exit_code == Exit.OK, result.output
    assert result.stdout.count("ready") == 6
    assert [p.data for p in server.packages.values()] == [package.read_bytes()] * 6


def test_upload_tells_everything_as_json(run: Run, server: StandIn, package: Path) -> None:
    (told,) = lines(run("upload", "--wait", "--json", package))
    (stored,) = server.packages.values()
    assert told["package_id"] == str(stored.id)
    assert told["sha256"] == stored.sha256
    assert told["status"]["status"] == "ready"
    assert told["error"] is None
    (told,) = lines(run("upload", "--json", package))
    assert told["status"] is None


def test_upload_ends_with_the_worst_of_its_files(
    run: Run, server: StandIn, package: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.zip"
    empty.touch()
    result = run("upload", empty, package)
    assert result.exit_code == Exit.REFUSED
    assert "This file is empty" in result.stderr
    assert len(server.packages) == 1


def test_a_package_that_is_refused_is_told_with_all_its_problems(
    run: Run, server: StandIn, package: Path
) -> None:
    server.fate = {
        "error_code": "crc_mismatch",
        "error_message": f"“{EVIL}” is damaged.",
        "problems": [problem("crc_mismatch", f"“{EVIL}” is damaged."), problem("symlink", "A link.")],
    }
    result = run("upload", "--wait", package)
    assert result.exit_code == Exit.REFUSED
    assert "(crc_mismatch)" in result.stdout
    assert "A link. (symlink)" in result.stdout
    assert "→ Do it again." in result.stdout
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\\x1b]0;owned\\x07[red]\\u202eCRS.A" in result.stdout, (
        "markup is text, what steers is spelled out"
    )


def test_a_folder_needs_to_be_asked_for(run: Run, server: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "MYPOST"
    (folder / "sub").mkdir(parents=True)
    for name, data in samples.post_processor("MILL", sections=4).items():
        (folder / "sub" / name).write_bytes(data)
    (folder / ".DS_Store").touch()
    (folder / "link").symlink_to("/etc/passwd")
    assert run("upload", folder).exit_code == Exit.USAGE
    assert not server.packages

    result = run("upload", "--zip", folder)
    assert result.exit_code == Exit.OK
    assert "link was left out" in result.stderr
    (stored,) = server.packages.values()
    assert stored.name == "MYPOST"
    assert stored.data is not None
    (tmp_path / "sent.zip").write_bytes(stored.data)
    with zipfile.ZipFile(tmp_path / "sent.zip") as sent:
        assert {name.partition("/")[0] for name in sent.namelist()} == {"sub"}
    assert run("check", tmp_path / "sent.zip").exit_code == Exit.OK

    run("upload", "--zip", folder)
    assert len({stored.sha256 for stored in server.packages.values()}) == 1, "the same files, the same bytes"


def test_an_interrupted_upload_goes_on_in_the_next_process(run: Run, server: StandIn, package: Path) -> None:
    server.faults.append(Fault("POST /store/", times=5))
    assert run("upload", package).exit_code == Exit.UNAVAILABLE
    result = run("upload", package)
    assert "interrupted" in result.stdout
    assert len(server.packages) == 1


def test_bytes_that_are_there_already_are_not_sent(run: Run, server: StandIn, package: Path) -> None:
    server.tells_duplicates = True
    (first,) = lines(run("upload", "--wait", "--json", package))
    (second,) = lines(run("upload", "--wait", "--json", package))
    assert second["package_id"] == first["package_id"]
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert server.count("POST /store/") == 1
    assert "the very same bytes" in run("upload", package).stdout
    (third,) = lines(run("upload", "--allow-duplicate", "--json", package))
    assert third["package_id"] != first["package_id"]


# -- check


def test_check_says_what_the_gate_says(run: Run, package: Path, tmp_path: Path, capsys: Any) -> None:
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("a.txt", b"x")
        archive.writestr("../b.SRC", b"x")
    assert archive_main(["--platform", "camworks", str(bad)]) == 1
    expected = json.loads(capsys.readouterr().out)

    result = run("check", "--json", bad, package)

    assert result.exit_code == Exit.REFUSED
    told = lines(result)
    assert {found["code"] for found in told[0]["problems"]} == {
        found["code"] for found in expected["problems"]
    }
    assert told[0]["members"] == expected["members"]
    assert [line["accepted"] for line in told] == [False, True]


def test_check_reads_folders_and_tells_what_cannot_be_read(run: Run, tmp_path: Path, package: Path) -> None:
    folder = tmp_path / "post"
    folder.mkdir()
    (folder / "readme.docx").touch()
    result = run("check", folder, tmp_path / "missing.zip", package)
    assert result.exit_code == Exit.USAGE
    assert "forbidden_extension" in result.stdout
    assert "missing.zip: No such file" in result.stderr
    assert "accepted, 7 files" in result.stdout


def test_check_needs_no_server(run: Run, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERIPOST_URL")
    assert run("check", package).exit_code == Exit.OK


# -- packages


def test_list_prints_tabs_where_nobody_watches(run: Run, server: StandIn) -> None:
    package = server.add({"A.SRC": b"a"}, name="MILL\ttab")
    result = run("list", "--status", "ready", "--since", "7d", "--sort", "name", "--limit", 1)
    cells = result.stdout.rstrip("\n").split("\t")
    assert cells[:3] == [str(package.id), "MILL\\ttab", "ready"]
    assert server.requests[-1].query["status"] == "ready"
    assert server.requests[-1].query["limit"] == "1"
    assert lines(run("list", "--json"))[0]["id"] == str(package.id)


def test_a_time_that_is_none_is_wrong_usage(run: Run) -> None:
    result = run("list", "--since", "yesterday")
    assert result.exit_code == Exit.USAGE
    assert "is no time" in result.stderr


def test_show_fetches_what_is_beyond_the_first_page(run: Run, server: StandIn) -> None:
    package = server.add({f"{number}.SRC": b"x" for number in range(5)})
    package.error = {"problems": [problem("junk_skipped", f"number {n}", "notice") for n in range(3)]}
    result = run("show", package.id)
    assert result.exit_code == Exit.OK
    assert all(f"{number}.SRC" in result.stdout for number in range(5))
    assert result.stdout.count("junk_skipped") == 3
    (told,) = lines(run("show", "--json", package.id))
    assert len(told["files"]) == 5
    assert len(told["problems"]) == 3


def test_what_is_not_there_is_not_found(run: Run) -> None:
    result = run("show", uuid4())
    assert result.exit_code == Exit.NOT_FOUND
    assert "There is no such package" in result.stderr
    result = run("show", "--json", uuid4())
    assert json.loads(result.stderr)["error"]["code"] == "package_not_found"
    assert result.stdout == ""
    assert run("show", "not-an-id").exit_code == Exit.USAGE


def test_wait_and_replay(run: Run, server: StandIn) -> None:
    package = server.add({})
    assert run("wait", package.id).exit_code == Exit.OK
    assert "job" in run("replay", package.id).stdout
    assert run("replay", package.id).exit_code == Exit.CONFLICT
    package.path = ["error"]
    package.error = {"error_code": "ingest_failed", "error_message": "Ours."}
    assert run("wait", package.id).exit_code == Exit.UNAVAILABLE
    package.path = ["ready"]
    assert "ready" in run("replay", "--wait", package.id).stdout
    package.path = ["parsing"]
    assert run("wait", "--timeout", 0, package.id).exit_code == Exit.UNFINISHED


def test_search_shows_the_best_first_and_pages(run: Run) -> None:
    found = lines(run("search", "tool", "change", "--json"))
    assert [hit["name"] for hit in found] == [f"tool change_{number}" for number in range(3)]
    assert len(lines(run("search", "tool", "--json", "--limit", 1))) == 1
    assert "tool_0\tCALC\tHAAS.SRC" in run("search", "tool").stdout


def test_diff_tells_what_differs_by_its_words_and_its_exit_status(run: Run) -> None:
    one, other = uuid4(), uuid4()
    assert run("diff", one, one).exit_code == Exit.OK
    result = run("diff", one, other)
    assert result.exit_code == Exit.REFUSED
    assert "sections: 1 added, 1 removed, 1 changed, 7 the same" in result.stdout
    assert "~ section RAPID  in HAAS.SRC" in result.stdout
    assert "\x1b" not in result.stdout
    assert "    +:T:G1" in run("diff", one, other, "--section", "RAPID").stdout
    totals, *found = lines(run("diff", one, other, "--json"))
    assert totals["sections"]["changed"] == 1
    assert [each["name"] for each in found] == ["RAPID", "TAP\x1b[31m", "OLD"]


def test_rm_asks_or_is_told(run: Run, server: StandIn) -> None:
    package = server.add({})
    assert run("rm", package.id).exit_code == Exit.USAGE
    assert str(package.id) in server.packages
    server.delete_answers = [409]
    assert run("rm", "--yes", package.id).exit_code == Exit.CONFLICT
    server.delete_answers = [202]
    assert "server does the rest" in run("rm", "--yes", package.id).stdout
    assert lines(run("rm", "--yes", "--json", package.id))[0]["deleted"] is True
    assert not server.packages


# -- download


def test_download_takes_names_and_patterns(run: Run, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"A.SRC": b"a", "B.SRC": b"b", "C.LIB": b"c", "D.CTL": b"d"})
    result = run("download", package.id, "*.src", "c.lib", "-o", tmp_path / "out")
    assert result.exit_code == Exit.OK, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"A.SRC", "B.SRC", "C.LIB"}

    result = run("download", package.id, "E.*", "-o", tmp_path / "out")
    assert result.exit_code == Exit.NOT_FOUND
    assert "no such file: E.*" in result.stderr


def test_download_of_everything_and_verify(run: Run, server: StandIn, tmp_path: Path) -> None:
    package = server.add({f"{number}.SRC": bytes([number]) * 100_000 for number in range(9)})
    result = run("download", package.id, "--all", "--json", "-o", tmp_path)
    assert [line["file"] for line in lines(result)] == [f"{number}.SRC" for number in range(9)]
    assert all(line["verified"] and line["fresh"] for line in lines(result))
    assert "was here already" in run("download", package.id, "--all", "-o", tmp_path).stdout

    assert run("verify", package.id, tmp_path).exit_code == Exit.OK
    (tmp_path / "3.SRC").write_bytes(b"edited")
    (tmp_path / "4.SRC").unlink()
    result = run("verify", package.id, tmp_path, "--json")
    assert result.exit_code == Exit.REFUSED
    assert {line["filename"]: line["state"] for line in lines(result)} == {
        **{f"{number}.SRC": "same" for number in range(9)},
        "3.SRC": "different",
        "4.SRC": "missing",
        **{path.name: "extra" for path in tmp_path.iterdir() if path.suffix != ".SRC"},
    }
    result = run("download", package.id, "--all", "-o", tmp_path)
    assert result.exit_code == Exit.REFUSED
    assert "left alone" in result.stderr
    assert (tmp_path / "4.SRC").exists(), "one file that is in the way does not stop the others"
    assert run("download", package.id, "--all", "--force", "-o", tmp_path).exit_code == Exit.OK


def test_download_of_names_that_would_lead_elsewhere(run: Run, server: StandIn, tmp_path: Path) -> None:
    package = server.add({"../evil.SRC": b"evil", "A.SRC": b"a"})
    result = run("download", package.id, "--all", "-o", tmp_path / "out")
    assert result.exit_code == Exit.REFUSED
    assert not (tmp_path / "evil.SRC").exists()
    assert (tmp_path / "out" / "A.SRC").exists()


def test_download_says_what_it_needs_to_know(run: Run, server: StandIn, tmp_path: Path) -> None:
    package = server.add({})
    assert run("download", package.id).exit_code == Exit.USAGE
    assert run("download", package.id, "--all", "A.SRC").exit_code == Exit.USAGE
    result = run("download", package.id, "--all")
    assert result.exit_code == Exit.CONFLICT
    assert "has no files: it is ready" in result.stderr
    assert run("download", package.id, "--original", "-o", tmp_path / "o").exit_code == Exit.OK
    assert (tmp_path / "o" / "MILL.zip").read_bytes() == b"PK"


# -- keys, doctor


def test_keys(run: Run, server: StandIn) -> None:
    result = run("keys", "create", "erp", "--scope", "write", "--days", 30)
    assert result.stdout == "vp_new\n", "so that a script can take it"
    assert json.loads(server.requests[-1].body) == {"client_name": "erp", "scopes": ["write"], "days": 30}
    assert "vp_12345678" in run("keys", "list").stdout
    assert run("keys", "revoke", uuid4()).exit_code == Exit.OK


def test_doctor(run: Run, server: StandIn) -> None:
    assert run("doctor", "--deep").exit_code == Exit.OK
    assert server.ordered == {"fix": False, "deep": True}
    finding = {
        "kind": "row_without_object",
        "bucket": "packages",
        "key": "packages/x/A.SRC",
        "package_id": None,
        "detail": "gone",
        "fix": "replay",
        "fixed": False,
    }
    server.findings = [finding]
    result = run("doctor")
    assert result.exit_code == Exit.REFUSED
    assert "row_without_object: packages/x/A.SRC  gone" in result.stdout
    server.findings = [{**finding, "fixed": True}]
    assert run("doctor", "--fix").exit_code == Exit.OK


# -- login


def test_login_stores_what_works_for_its_owner_only(
    run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VERIPOST_URL")
    monkeypatch.delenv("VERIPOST_API_KEY")
    assert run("list").exit_code == Exit.USAGE
    result = run("login", input=f"{server.url}/\n{KEY}\n")
    assert result.exit_code == Exit.OK, result.output
    assert KEY not in result.output
    assert logins.stored_at().stat().st_mode & 0o777 == 0o600
    assert run("list").exit_code == Exit.OK
    assert run("logout").exit_code == Exit.OK
    assert not logins.stored_at().exists()
    assert run("list").exit_code == Exit.USAGE


def test_login_stores_nothing_that_does_not_work(
    run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("login", server.url, "--key-stdin", input="wrong\n")
    assert result.exit_code == Exit.NOT_ALLOWED
    assert run("login", "http://shop.example/api", "--key-stdin", input="key\n").exit_code == Exit.USAGE
    assert run("login", server.url, "--key-stdin", input="two words\n").exit_code == Exit.USAGE
    assert not logins.stored_at().exists()


def test_a_stored_key_goes_to_no_other_address(run: Run, server: StandIn) -> None:
    logins.store(logins.Login("https://one.example/api", "secret", "X-Key"))
    environ = {"VERIPOST_URL": "https://other.example/api"}
    assert logins.find(environ) == logins.Login("https://other.example/api", None, "X-API-Key")
    assert logins.find({}) == logins.Login("https://one.example/api", "secret", "X-Key")
    assert logins.find(environ, "https://one.example/api/").key == "secret"
    assert logins.find({"VERIPOST_API_KEY": " new\n"}).key == "new"
    assert "secret" not in repr(logins.find({}))


def test_a_wrong_key_and_a_server_that_is_down(run: Run, server: StandIn, package: Path) -> None:
    for arguments in (["list"], ["show", uuid4()], ["upload", package]):
        assert run(*arguments, env={"VERIPOST_API_KEY": "wrong"}).exit_code == Exit.NOT_ALLOWED
        result = run("--url", "http://127.0.0.1:1/api", *arguments)
        assert result.exit_code == Exit.UNAVAILABLE
        assert "does not answer" in result.stderr
    assert "veripost login" in run("list", env={"VERIPOST_API_KEY": "wrong"}).stderr


# -- the frame


def _commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else []
        found += [(f"{name} {sub}", part) for sub, part in inner] or [(name, command)]
    return found


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name for name, _ in _commands()])
def test_every_command_has_help_and_json(name: str, command: click.Command) -> None:
    options = {text for option in command.params for text in option.opts}
    assert command.help
    if name != "completion":
        assert "--json" in options
    assert not {"--key", "--api-key", "--password"} & options


def test_help_and_completion_import_no_command(run: Run) -> None:
    assert all(name in run("--help").stdout for name in COMMANDS)
    assert [item.value for item in cli.shell_complete(click.Context(cli), "do")] == ["download", "doctor"]
    assert "--url" in [item.value for item in cli.shell_complete(click.Context(cli), "--")]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_VERIPOST_COMPLETE" in result.stdout


def test_main_gives_the_exit_status(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for arguments, status in (
        (["list"], 0),
        (["show", str(uuid4())], 3),
        (["nonsense"], 2),
        (["--version"], 0),
    ):
        monkeypatch.setattr("sys.argv", ["veripost", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code == status
    assert "No such command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status"), [(KeyboardInterrupt, Exit.INTERRUPTED), (click.Abort, Exit.INTERRUPTED)]
)
def test_an_interrupt_ends_as_shells_expect(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], status: int
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == status
