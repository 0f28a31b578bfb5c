"""Every route of the deployed API with every kind of key, as docs/api-keys.md lists them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import Answer, ApiClient
from localcloud.cloud import Cloud
from veripost import api_key

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api-keys.md").read_text()
ROUTES: list[tuple[str, str, str]] = re.findall(
    r"^\| `([A-Z]+) (/v1/[^`]*)` \| `?(\w+)`? \|$", PAGE, re.MULTILINE
)
PATHS = sorted({path for _, path, _ in ROUTES})
LESSER = {"write": "read", "admin": "write"}
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Keys:
    """One good key a scope, and the kinds that must not work."""

    good: dict[str, str]
    bad: dict[str, str | None]


@pytest.fixture(scope="module")
def keys(cloud: Cloud, api: ApiClient) -> Keys:
    good = {scope: cloud.mint_key(f"{scope} only", scope) for scope in ("read", "write", "admin")}
    soon = datetime.now(UTC) + timedelta(seconds=2)
    wanted = {"client_name": "short", "scopes": ["admin"], "expires_at": soon.isoformat()}
    expired = api.post("/v1/keys", wanted).json["key"]
    revoked = api.post("/v1/keys", {"client_name": "revoked", "scopes": ["admin"]}).json
    assert api.request("DELETE", f"/v1/keys/{revoked['id']}").status == 204
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.2)
    changed = good["admin"][:-7] + ("a" if good["admin"][-7] != "a" else "b") + good["admin"][-6:]
    return Keys(
        good,
        {
            "none": None,
            "nonsense": "secret",
            "changed": changed,
            "unknown": api_key.make().text,
            "revoked": revoked["key"],
            "expired": expired,
        },
    )


def _call(cloud: Cloud, key: str | None, verb: str, path: str) -> Answer:
    """Send a request that changes nothing, whoever may: its ids are unknown, and its body is none."""
    filled = re.sub(r"\{\w+\}", lambda _: str(uuid4()), path)
    headers = {"Content-Type": "application/json"}
    body = b"{" if verb in {"POST", "PUT", "PATCH"} else None
    return ApiClient(cloud.api_url, key).request(verb, filled, body=body, headers=headers)


def test_the_table_was_found() -> None:
    assert len(ROUTES) >= 19
    assert {scope for _, _, scope in ROUTES} == {"none", "read", "write", "admin"}


@pytest.mark.parametrize(("verb", "path", "scope"), ROUTES)
def test_a_route_lets_in_who_may(cloud: Cloud, keys: Keys, verb: str, path: str, scope: str) -> None:
    if scope == "none":
        for key in (*keys.bad.values(), *keys.good.values()):
            assert _call(cloud, key, verb, path).status == 200
        return

    told = set()
    for kind, bad in keys.bad.items():
        answer = _call(cloud, bad, verb, path)
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated"), kind
        told.add((answer.json["message"], answer.json["detail"]))
    assert len(told) == 1

    if scope in LESSER:
        answer = _call(cloud, keys.good[LESSER[scope]], verb, path)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert scope in answer.json["message"]

    for higher in ("read", "write", "admin")[("read", "write", "admin").index(scope) :]:
        answer = _call(cloud, keys.good[higher], verb, path)
        assert answer.status in {200, 204, 400, 404, 415, 422}, answer.body
        assert b'"route_not_found"' not in answer.body


@pytest.mark.parametrize("path", PATHS)
def test_other_verbs_are_404_with_and_without_a_key(cloud: Cloud, keys: Keys, path: str) -> None:
    # A literal path may look like a variable one: POST /v1/packages/upload is no verb of /v1/packages/{id}.
    alike = {verb for verb, other, _ in ROUTES if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), path)}
    for verb in sorted(set(VERBS) - alike):
        for key in (None, keys.good["admin"]):
            answer = _call(cloud, key, verb, path)
            assert (answer.status, answer.json["code"]) == (404, "route_not_found"), verb


def test_a_package_remembers_who_brought_it(cloud: Cloud) -> None:
    client = ApiClient(cloud.api_url, cloud.mint_key("post archive", "write"))
    made = client.upload("a.zip", samples.zip_of({"A.SRC": uuid4().bytes})).json["package_id"]
    assert client.wait(made)["status"] == "ready"
    assert client.get(f"/v1/packages/{made}").json["created_by"] == "post archive"


def test_the_command_behind_make_key_prints_the_key_and_nothing_else(cloud: Cloud) -> None:
    command = [sys.executable, "-m", "localcloud", "key", "--state", str(cloud.state_dir)]
    done = subprocess.run(
        [*command, "--name", "me", "--scopes", "read,write", "--days", "7"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    key = done.stdout.strip()
    assert api_key.prefix_of(key)
    assert "me, read+write, until" in done.stderr
    assert ApiClient(cloud.api_url, key).get("/v1/packages").status == 200
    wrong = subprocess.run([*command, "--name", "me", "--scopes", "root"], cwd=ROOT, check=False)
    assert wrong.returncode == 1


def test_no_log_holds_a_key(cloud: Cloud, keys: Keys) -> None:
    used = [key for key in (*keys.good.values(), *keys.bad.values()) if key and key.startswith("vp_")]
    for key in used:
        ApiClient(cloud.api_url, key).get("/v1/packages")
    read = 0
    for log in (*cloud.state_dir.rglob("*.log"), *cloud.state_dir.rglob("state.json")):
        text = log.read_text(errors="replace")
        read += len(text)
        for key in used:
            assert key[11:43] not in text, log
    assert read > 10_000
