"""Does what an event asks for: answers, prints, crashes, sleeps, fails, or works on a batch."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> Any:
    """Run one probe."""
    if "Records" in event:
        return work_on(event["Records"])
    match event.get("probe"):
        case "print":
            print("printed", event["text"], flush=True)
        case "crash":
            os._exit(3)
        case "sleep":
            time.sleep(event["seconds"])
        case "raise":
            raise ValueError(event["text"])
        case "modules":
            return [name for name in event["names"] if importlib.util.find_spec(name)]
    return {
        "statusCode": 200,
        "body": json.dumps(
            {
                "pid": os.getpid(),
                "request_id": context.aws_request_id,
                "remaining": context.get_remaining_time_in_millis(),
                "memory": context.memory_limit_in_mb,
                "log_group": context.log_group_name,
                "endpoint": os.environ["AWS_ENDPOINT_URL"],
                "path": sys.path[:2],
            }
        ),
    }


def work_on(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Report the messages `fail once` as failed when they come for the first time."""
    print("batch", json.dumps([len(records), os.getpid(), time.time()]), flush=True)
    time.sleep(0.5)
    failures = [
        {"itemIdentifier": record["messageId"]}
        for record in records
        if record["body"] == "fail once" and record["attributes"]["ApproximateReceiveCount"] == "1"
    ]
    for record in records:
        count = record["attributes"]["ApproximateReceiveCount"]
        print("record", json.dumps([record["body"], count, time.time()]), flush=True)
    return {"batchItemFailures": failures}
