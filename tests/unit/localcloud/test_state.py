"""What a cloud writes down, and what is made of it afterwards."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.cloud import Cloud, CloudError, down, is_running, load_state
from localcloud.processes import ProcessId
from localcloud.supervisor import Servers


def servers() -> Servers:
    me = ProcessId.of(os.getpid())
    return Servers(me, replace(me, started="long ago"), None, "http://127.0.0.1:1", "postgresql://u:p@h/d")


def cloud(state_dir: Path) -> Cloud:
    return Cloud(state_dir, "http://127.0.0.1:1/api", "http://127.0.0.1:1", "", {"A": "1"}, {"B": "2"}, "f")


def test_both_files_are_read_back_and_only_we_can_read_them(tmp_path: Path) -> None:
    servers().save(tmp_path)
    cloud(tmp_path).save()
    assert Servers.load(tmp_path) == servers()
    assert load_state(tmp_path) == cloud(tmp_path)
    for file in (Servers.file(tmp_path), Cloud.file(tmp_path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_a_living_supervisor_without_an_error_is_a_running_cloud(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    running = servers()
    running.save(tmp_path)
    assert is_running(tmp_path)
    replace(running, error="LocalStack ended").save(tmp_path)
    assert not is_running(tmp_path)
    replace(running, supervisor=replace(running.supervisor, started="long ago")).save(tmp_path)
    assert not is_running(tmp_path)
    with pytest.raises(CloudError, match="make up"):
        load_state(tmp_path)


def test_down_clears_up_after_a_cloud_that_is_gone_and_keeps_its_logs(tmp_path: Path) -> None:
    dead = replace(servers().supervisor, started="long ago")
    Servers(dead, None, None, "", "").save(tmp_path)
    cloud(tmp_path).save()
    for name in ("tmp", "postgres", "runtime", "logs"):
        (tmp_path / name).mkdir()
    assert down(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "logs"]
    assert not down(tmp_path)
    assert not down(tmp_path / "never")
