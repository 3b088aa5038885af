"""The command that the operator's tests run: it writes down what it was given, and behaves as it is told.

Environment: EVIDENCE names the file that a JSON line is added to at the start and at the end of each run;
beside it, `<EVIDENCE>.control` (JSON, see `Control` in testbed.py) tells how to behave and is read again while
the command waits. A lock is held while it runs: a second run at the same time writes a line that says so.
"""

import base64
import fcntl
import json
import os
import signal
import sys
import time
import uuid

from burning import burn

EVIDENCE = os.environ.get("EVIDENCE", "")


def main() -> None:
    """Run the command `serve` (the web app: sleep for ever) or any other (a run)."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            time.sleep(60)
    # Who has told that it started also tells how it ended.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run_id = uuid.uuid4().hex
    run_time = os.environ.get("RUN_TIME")
    earlier = sum(one["event"] == "start" and one["run_time"] == run_time for one in evidence())
    tell(
        event="start",
        id=run_id,
        pid=os.getpid(),
        argv=sys.argv[1:],
        run_time=run_time,
        last_success=os.environ.get("LAST_SUCCESS"),
        version=os.environ.get("VERSION"),
    )
    told = control()
    if told.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: end(run_id, "terminated", 143))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # Open until the process ends, however it ends.
    lock = os.open(f"{EVIDENCE}.lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        tell(event="overlap", id=run_id)
    print(f"run {run_time} begins")
    chatter(**told.get("output", {}))
    time.sleep(told.get("seconds", 0))
    while control().get("hold", False) in (True, run_time):
        time.sleep(0.02)
    told = control()
    failures = told.get("failures", 0)
    if isinstance(failures, dict):
        failures = failures.get(run_time, 0)
    if os.environ.get("VERSION") in told.get("bad_versions", []) or earlier < failures:
        fail(run_id, told.get("how", "traceback"))
    end(run_id, "good", 0)


def chatter(lines: int = 0, size: int = 0, pause: float = 0.0, raw: str = "") -> None:
    """Print so many numbered lines of so many bytes, with pauses; and before them anything at all, in base64."""
    os.write(1, base64.b64decode(raw))
    filling = "x" * size
    for number in range(lines):
        os.write(1, f"line {number} {filling}\n".encode())
        time.sleep(pause)


def fail(run_id: str, how: str) -> None:
    """End as commands that fail do: with a traceback, with Django's line for a CommandError, or without a word."""
    if "say" in control():
        print(control()["say"])
    if how == "traceback":
        tell(event="end", id=run_id, outcome="failed")
        burn()
    if how == "command-error":
        print("CommandError: no such signature", file=sys.stderr)
    end(run_id, "failed", 3)


def end(run_id: str, outcome: str, code: int) -> None:
    """Write down how the run ended, and end."""
    tell(event="end", id=run_id, outcome=outcome)
    os._exit(code)


def tell(**entry: object) -> None:
    """Add a line, in one write, so that lines of two runs never mix."""
    line = json.dumps({**entry, "at": time.time()}) + "\n"
    file = os.open(EVIDENCE, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)


def evidence() -> list:
    """Read what earlier runs wrote."""
    try:
        with open(EVIDENCE, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


def control() -> dict:
    """Read how to behave."""
    try:
        with open(f"{EVIDENCE}.control", encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
