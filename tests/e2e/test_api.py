"""The API as it is deployed: the gateway's own answers, CORS, and every state that a client can see."""

from __future__ import annotations

from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud
from tests.e2e.conftest import ORIGIN


def test_health(api: ApiClient) -> None:
    answer = api.get("/v1/health")
    assert (answer.status, answer.json["status"]) == (200, "ok")
    assert answer.json["database"] == answer.json["storage"] == "ok"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("GET", "/v1/nowhere/at/all"), ("DELETE", "/v1/packages"), ("PUT", "/v1/health")],
)
def test_what_the_gateway_does_not_know_is_404_in_our_shape(api: ApiClient, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status, answer.json["code"]) == (404, "route_not_found")
    assert answer.json["message"]
    assert answer.json["request_id"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/v1/packages/{uuid4()}", "package_not_found"),
        (f"/v1/posts/{uuid4()}", "package_not_found"),
        (f"/v1/packages/{uuid4()}/status", "package_not_found"),
        (f"/v1/packages/{uuid4()}/archive", "package_not_found"),
        (f"/v1/packages/{uuid4()}/files/{uuid4()}/download", "file_not_found"),
    ],
)
def test_unknown_ids_are_404(api: ApiClient, path: str, code: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.json["code"]) == (404, code)


def test_a_wrong_body(api: ApiClient) -> None:
    answer = api.request("POST", "/v1/packages", body=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    answer = api.request("POST", "/v1/packages", body=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["code"]) == (422, "invalid_fields")
    answer = api.request("POST", "/v1/packages/upload", body=b"PK", headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


def test_an_upload_above_the_bound_names_the_presigned_way(api: ApiClient) -> None:
    answer = api.upload("big.zip", bytes((4 << 20) + 1))
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert "POST /v1/packages" in answer.json["message"]


def test_browsers_of_our_origins_may_call(api: ApiClient) -> None:
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    for path in ("/v1/packages", "/v1/packages/upload", f"/v1/packages/{uuid4()}/status"):
        answer = api.request("OPTIONS", path, headers=asking)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    stranger = api.request("OPTIONS", "/v1/packages", headers=asking | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


def test_lists_and_their_aliases(api: ApiClient) -> None:
    made = [
        api.upload("a.zip", samples.zip_of({f"L{number}.SRC": uuid4().bytes})).json["package_id"]
        for number in range(3)
    ]
    for package_id in made:
        api.wait(package_id)
    first = api.get("/v1/packages?limit=2").json
    assert [package["id"] for package in first["packages"]] == made[:0:-1]
    assert first["count"] == 2
    second = api.get(f"/v1/posts?limit=1&cursor={first['next_cursor']}").json
    assert [package["id"] for package in second["packages"]] == made[:1]


def test_the_list_is_filtered_and_sorted(api: ApiClient) -> None:
    mark = f"FIND_{uuid4().hex[:8]}"
    made = []
    for number in range(3):
        data = samples.zip_of({f"{mark}_{number}.SRC": uuid4().bytes, f"X{number}.KIN": b"1"})
        made.append(api.upload("a.zip", data).json["package_id"])
        api.wait(made[-1])

    def found(query: str) -> list[str]:
        return [package["id"] for package in api.get(f"/v1/packages?{query}").json["packages"]]

    assert found(f"name={mark.lower()}") == made[::-1]
    assert found(f"name={mark}&sort=name&status=ready&extension=kin") == made
    assert found(f"name={mark}&platform=nobody") == []
    sha256 = api.get(f"/v1/packages/{made[1]}").json["content_hash"]
    assert found(f"sha256={sha256}&created_since=2026-01-01T00:00:00Z") == [made[1]]
    first = api.get(f"/v1/packages?name={mark}&sort=-name&limit=2").json
    assert [package["id"] for package in first["packages"]] == made[:0:-1]
    assert found(f"name={mark}&sort=-name&limit=2&cursor={first['next_cursor']}") == made[:1]
    for wrong in (f"cursor={first['next_cursor']}", "colour=red", "status=ready&status=error"):
        answer = api.get(f"/v1/packages?{wrong}")
        assert (answer.status, answer.json["code"]) == (422, "invalid_fields"), wrong


def test_states_are_seen_in_order(api: ApiClient) -> None:
    """A poll may miss a short state but never sees them out of order."""
    data = samples.zip_of(
        {f"F{number}.LIB": bytes([number % 251]) * 2000 for number in range(400)} | {"A.SRC": b"1"}
    )
    announced = api.announce("many.zip", data).json
    seen: list[str] = []
    api.send_form(announced["upload"], data)
    api.wait(announced["package_id"], on_change=seen.append)
    order = ["pending", "validating", "storing", "parsing", "ready"]
    assert seen == [state for state in order if state in seen]
    assert "storing" in seen


def test_a_poll_waits_for_news_and_what_is_known_is_not_sent_again(api: ApiClient) -> None:
    data = samples.zip_of({"A.SRC": uuid4().bytes})
    announced = api.announce("a.zip", data).json
    path = f"/v1/packages/{announced['package_id']}/status"
    first = api.get(path)
    assert first.headers["Retry-After"] == "1"
    known = {"If-None-Match": first.headers["ETag"]}
    same = api.get(f"{path}?wait=1", headers=known)
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", first.headers["ETag"])

    api.send_form(announced["upload"], data)
    answer = api.get(f"{path}?wait=20", headers=known)
    assert answer.status == 200  # the state, or first only that the archive has landed
    assert answer.json["progress"]["bytes_received"] == len(data)
    final = api.get(f"{path}?wait=20")
    assert (final.json["status"], final.json["progress"]["files_total"]) == ("ready", 1)
    assert "Retry-After" not in final.headers
    assert api.get(f"/v1/packages/{announced['package_id']}").headers["ETag"]


def test_migrating_again_changes_nothing(cloud: Cloud) -> None:
    first, second = cloud.invoke("MigrateFunctionName"), cloud.invoke("MigrateFunctionName")
    assert first == second
    assert "vector" in first["extensions"]


def test_downloads_are_named_safely(api: ApiClient) -> None:
    package_id = api.upload("a.zip", samples.zip_of({'Fräse "1".SRC': b"x"})).json["package_id"]
    api.wait(package_id)
    file_id = api.get(f"/v1/packages/{package_id}").json["files"][0]["id"]
    redirect = api.get(f"/v1/packages/{package_id}/files/{file_id}/download")
    answer = api.request("GET", redirect.headers["Location"])
    assert answer.body == b"x"
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="Fr_se _1_.SRC"; filename*=UTF-8')
    assert answer.headers["Content-Type"] == "application/octet-stream"
    tampered = api.request(
        "GET", redirect.headers["Location"].replace("X-Amz-Expires=300", "X-Amz-Expires=3000")
    )
    assert tampered.status == 403
