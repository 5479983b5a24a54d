"""Stands in for `python -m engine` where a test is about the Lab and not about training: `rerun … --plan --json` and `job ID`.

Which seed is asked for decides what happens: 7 fails, 8 goes on until it is cancelled, 9 is killed, any other is done at once.
Of a sweep every value of 1 and more diverges.
"""

import json
import os
import signal
import sys
import time
from typing import Any

sys.path.insert(0, os.getcwd())

from engine import queue

METRICS = {"retain_accuracy": 0.998, "forget_accuracy": 0.975, "val_accuracy": 0.97, "test_accuracy": 0.966, "retention_deviation": 0.02,
           "mia_val": 0.51, "mia_test": 0.512, "indiscernibility": 0.976, "rte": 11.0, "unlearn_s": 0.5, "image_passes": 12000.0}


VALUES = [0.01, 0.1, 1.0]


def plan(arguments: list[str]) -> int:
    """As the engine: a document, or faults with exit code 2."""
    settings = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--set"]
    if "epochs=0" in settings:
        print("msg.epochs: got 0, must be int in [1, 1000] (walks over retain)", file=sys.stderr)
        return 2
    known = "lr=0.08" in settings
    swept = {"sweep": {"name": "lr", "log": True, "values": VALUES}} if "--sweep" in arguments else {}
    print(json.dumps({"seconds": 12.0, "reused": False, "u_lira": known, "u_lira_reason": "" if known else "the stored shadows have other settings",
                      "needs": [{"what": "original model", "seconds": 5.0, "stored": False}, {"what": "retrained model", "seconds": 0.0, "stored": True}],
                      "faults": [], "device": "cpu", "devices": os.environ.get("FAKE_DEVICES", "cpu").split(","), **swept}))
    return 0


def job(job_id: str) -> int:
    request: dict[str, Any] = queue.status(job_id).request
    queue.update(job_id, phase="training the original model", done=0, total=100)
    for epoch in range(3):
        queue.update(job_id, done=10 * epoch, rate=10.0)
        for value in VALUES if "sweep" in request else [None]:
            queue.log_point(job_id, epoch, "loss", 1.0 / (epoch + 1), value)
    if request["seed"] == 7:
        queue.fail(job_id, "msg diverged: the loss became NaN in epoch 2. Try a smaller lr.")
        return 1
    if request["seed"] == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    while request["seed"] == 8:
        time.sleep(0.05)
    if "sweep" in request:
        queue.finish(job_id, swept(request))
        return 0
    queue.finish(job_id, {**{k: request[k] for k in ("method", "variant", "dataset", "model", "seed", "params")}, "run_id": "0123456789abcdef",
                          "metrics": METRICS, "reused": False, "provenance": {"machine": "test machine", "mode": "exact", "commit": "abcdef0123"},
                          "u_lira": {"split": 1004, "balanced_accuracy": {"value": 0.52, "lo": 0.44, "hi": 0.60}}})
    return 0


def swept(request: dict[str, Any]) -> dict[str, Any]:
    """A result as `rerun --sweep` prints it."""
    points = [{"value": value, "run_id": f"{at}123456789abcdef", "status": "done", "metrics": {**METRICS, "test_accuracy": 0.95 + value / 10},
               "reused": False} if value < 1 else
              {"value": value, "run_id": f"{at}123456789abcdef", "status": "diverged", "metrics": {}, "reused": False} for at, value in enumerate(VALUES)]
    return {**{k: request[k] for k in ("method", "variant", "dataset", "model", "seed", "params")}, "points": points,
            "sweep": {"name": "lr", "log": True, "values": VALUES}, "references": {"retrained": METRICS, "original": METRICS},
            "provenance": {"machine": "test machine", "mode": "exact", "commit": "abcdef0123"}}


if __name__ == "__main__":
    sys.exit(job(sys.argv[2]) if sys.argv[1] == "job" else plan(sys.argv[2:]))
