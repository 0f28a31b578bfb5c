"""A second `up` brings what changed to users: a setting, and a setting taken back."""

from __future__ import annotations

from uuid import uuid4

from localcloud import cloud as local
from localcloud import samples
from localcloud.api_client import ApiClient


def _again(cloud: local.Cloud, api: ApiClient, **changed: str) -> ApiClient:
    parameters = {name: value for name, value in cloud.parameters.items() if name != "Release"} | changed
    again = local.up(cloud.state_dir, parameters=parameters, fsync=False, leashed=True)
    return ApiClient(again.api_url, api.key)


def test_a_changed_setting_reaches_the_api_and_nothing_is_lost(cloud: local.Cloud, api: ApiClient) -> None:
    data = samples.zip_of({"A.SRC": uuid4().bytes, "A.CNF": b"1"})
    assert api.upload("a.zip", data).json["code"] == "forbidden_extension"
    kept = api.upload("b.zip", samples.zip_of({"B.SRC": uuid4().bytes})).json["package_id"]
    assert api.wait(kept)["status"] == "ready"

    changed = _again(cloud, api, ExtraExtensions="camworks:.CNF", LogJson="false")
    accepted = changed.upload("a.zip", data)
    assert accepted.status == 202
    assert changed.wait(accepted.json["package_id"])["status"] == "ready"
    assert changed.get(f"/v1/packages/{kept}").json["status"] == "ready"

    back = _again(cloud, api)
    refused = back.upload("a.zip", data, path="/v1/packages/upload?allow_duplicate=true")
    assert refused.json["code"] == "forbidden_extension"
