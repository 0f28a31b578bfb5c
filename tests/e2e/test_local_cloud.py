"""The local cloud itself: does it run functions as AWS would, and does it leave nothing behind?

It deploys a stack of its own (probe/), so that what it shows does not depend on the product.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.cloud import Cloud, CloudError, running
from localcloud.processes import ProcessId
from localcloud.supervisor import Servers

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).with_name("probe")

OWNER = """
import sys, time
from pathlib import Path
from localcloud.cloud import running
with running(Path(sys.argv[1]), fsync=False, project=Path(sys.argv[2])) as cloud:
    print("up", flush=True)
    cloud.client("lambda").invoke(
        FunctionName=cloud.outputs["ProbeName"], Payload=b'{"probe": "sleep", "seconds": 0}'
    )
    print("warm", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("probe"), fsync=False, project=PROBE) as cloud:
        yield cloud


def probe(cloud: Cloud, **event: Any) -> Any:
    return cloud.invoke("ProbeName", event)


def log_of(cloud: Cloud, name: str) -> str:
    return (cloud.state_dir / "logs" / f"{cloud.outputs[name]}.log").read_text()


def wait_for_log(cloud: Cloud, text: str, times: int = 1) -> str:
    deadline = time.monotonic() + 20
    while (log := log_of(cloud, "ProbeName")).count(text) < times:
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
    return log


def test_a_function_sees_what_it_would_see_on_aws(cloud: Cloud) -> None:
    answer = json.loads(probe(cloud)["body"])
    assert answer["memory"] == "256"
    assert answer["log_group"] == "/probe"
    assert answer["endpoint"] == cloud.endpoint_url
    assert 0 < answer["remaining"] <= 2000
    # boto3 comes with the runtime; what only the local cloud's own environment has does not.
    names = ["boto3", "awslambdaric", "localstack", "psutil"]
    assert probe(cloud, probe="modules", names=names) == ["boto3", "awslambdaric"]


def test_the_api_reaches_it(cloud: Cloud) -> None:
    with urllib.request.urlopen(f"{cloud.api_url.removesuffix('api')}Prod/probe") as answer:
        assert answer.status == 200
        assert json.load(answer)["request_id"]


def test_an_exception_reaches_the_caller_and_the_process_goes_on(cloud: Cloud) -> None:
    before = json.loads(probe(cloud)["body"])["pid"]
    with pytest.raises(CloudError, match=r"ValueError"):
        probe(cloud, probe="raise", text="on purpose")
    assert json.loads(probe(cloud)["body"])["pid"] == before


def test_a_crash_is_reported_at_once_and_the_next_call_gets_a_new_process(cloud: Cloud) -> None:
    started = time.monotonic()
    with pytest.raises(CloudError, match=r"Runtime.ExitError.*exit status 3"):
        probe(cloud, probe="crash")
    assert time.monotonic() - started < 5
    assert probe(cloud)["statusCode"] == 200


def test_a_function_is_killed_at_its_timeout(cloud: Cloud) -> None:
    with pytest.raises(CloudError, match=r"Task timed out after 2.00 seconds"):
        probe(cloud, probe="sleep", seconds=30)
    assert probe(cloud)["statusCode"] == 200


def test_a_handler_that_does_not_load_says_why(cloud: Cloud) -> None:
    with pytest.raises(CloudError, match=r"Handler 'missing' missing on module 'app'"):
        cloud.invoke("BrokenName")


def test_logs_have_the_platforms_lines_here_and_in_cloudwatch(cloud: Cloud) -> None:
    probe(cloud, probe="print", text="a line to find")
    log = wait_for_log(cloud, "printed a line to find")
    for expected in ("INIT_START", "START RequestId", "END RequestId", "REPORT RequestId"):
        assert expected in log
    deadline = time.monotonic() + 10
    while True:
        events = cloud.client("logs").filter_log_events(logGroupName="/probe")["events"]
        if any("printed a line to find" in event["message"] for event in events):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_failed_message_comes_back_alone(cloud: Cloud) -> None:
    sqs, queue = cloud.client("sqs"), cloud.outputs["QueueUrl"]
    bodies = ["fail once", "fine 1", "fine 2"]
    entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)]
    sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    log = wait_for_log(cloud, 'record ["fail once", "2"')
    assert log.count('record ["fine 1"') == 1
    assert log.count('record ["fine 2"') == 1


def test_batches_run_side_by_side_up_to_the_maximum_concurrency(cloud: Cloud) -> None:
    sqs, queue = cloud.client("sqs"), cloud.outputs["QueueUrl"]
    before = log_of(cloud, "ProbeName")
    for start in (0, 6):
        entries = [{"Id": str(index), "MessageBody": f"many {index}"} for index in range(start, start + 6)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    log = wait_for_log(cloud, 'record ["many', 12).removeprefix(before)
    batches = [json.loads(line[6:]) for line in log.splitlines() if line.startswith("batch [")]
    assert all(size <= 2 for size, _, _ in batches)
    assert len({pid for _, pid, _ in batches}) == 2


def test_postgres_restarts_under_the_running_cloud(cloud: Cloud) -> None:
    before = Servers.load(cloud.state_dir)
    cloud.restart_postgres()
    after = Servers.load(cloud.state_dir)
    assert before is not None
    assert after is not None
    assert before.postgres != after.postgres
    assert before.localstack == after.localstack


@pytest.mark.parametrize("victim", ["owner", "supervisor", "localstack", "postgres"])
def test_nothing_outlives_a_crash(tmp_path: Path, victim: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), str(PROBE)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with owner:
        try:
            assert owner.stdout is not None
            assert any(line == "warm\n" for line in owner.stdout)
            servers = Servers.load(tmp_path)
            assert servers is not None
            everything = servers.processes()
            programs = programs_of(tmp_path)
            assert len(programs) >= 2, "LocalStack and a function"
            started = everything | {f"program {pid}": ProcessId.of(pid) for pid in programs}
            os.kill(owner.pid if victim == "owner" else everything[victim].pid, signal.SIGKILL)
            for name, process in started.items():
                assert process.wait(30), name
        finally:
            owner.kill()


def programs_of(state_dir: Path) -> list[int]:
    """LocalStack and its functions: the processes that keep temporary files in a cloud's state folder."""
    listed = subprocess.run(["ps", "eww", "-eo", "pid=,args="], capture_output=True, text=True, check=True)
    marker = f"TMPDIR={state_dir}/tmp"
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if marker in line]
