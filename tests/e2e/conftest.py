"""One local cloud for the whole run: the very template, deployed, with short waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud import cloud as local
from localcloud.api_client import ApiClient

ORIGIN = "https://shop-floor.example"


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Cloud]:
    """A deployed stack that dies with the test run."""
    parameters = {
        "RetryBackoffSeconds": "1",
        "MaxReceiveCount": "3",
        "LeaseSeconds": "6",
        "IngestConcurrency": "4",
        "CorsOrigins": ORIGIN,
    }
    with local.running(tmp_path_factory.mktemp("cloud"), fsync=False, parameters=parameters) as running:
        yield running


@pytest.fixture(scope="session")
def api(cloud: local.Cloud) -> ApiClient:
    """A client of its API that may do everything."""
    return ApiClient(cloud.api_url, cloud.mint_key("end-to-end tests", "admin"))
