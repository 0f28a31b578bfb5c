"""Settings come from a mapping, are checked, and say what is wrong without saying the value."""

from __future__ import annotations

import pytest

from veripost.settings import Settings, SettingsError, load


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load({}) == Settings()
    assert load({"LOG_LEVEL": "", "DATABASE_PORT": ""}) == Settings()


def test_every_kind_of_value_is_parsed() -> None:
    settings = load(
        {
            "LOG_LEVEL": "debug",
            "LOG_JSON": "false",
            "CORS_ORIGINS": "https://a.example, https://b.example",
            "DATABASE_PORT": "6543",
            "REQUIRE_EXTENSIONS": "1",
            "EXTRA_EXTENSIONS": "camworks:.CNF,camworks:.RTF",
            "MAX_ENTRIES": "12",
        }
    )
    assert settings.log_level == "DEBUG"
    assert settings.log_json is False
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.database_port == 6543
    assert settings.require_extensions is True
    assert settings.extra_extensions == ("camworks:.CNF", "camworks:.RTF")
    assert settings.archive_limits["entries"] == 12


def test_all_faults_are_named_at_once_and_no_value_is() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"DATABASE_PORT": "hunter2", "LOG_LEVEL": "LOUD", "MAX_RATIO": "0", "EXTRA_EXTENSIONS": "CNF"})
    told = str(caught.value)
    for name in ("DATABASE_PORT", "LOG_LEVEL", "MAX_RATIO", "EXTRA_EXTENSIONS"):
        assert name in told
    assert "hunter2" not in told


def test_presigned_urls_name_the_public_endpoint_if_there_is_one() -> None:
    assert load({"S3_ENDPOINT_URL": "http://inside"}).s3_presign_endpoint_url == "http://inside"
    both = load({"S3_ENDPOINT_URL": "http://inside", "S3_PUBLIC_ENDPOINT_URL": "http://outside"})
    assert both.s3_presign_endpoint_url == "http://outside"
