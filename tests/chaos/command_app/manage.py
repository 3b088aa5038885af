"""The command that the chaos runs: it writes down what it saw and did, and misbehaves as its seed says.

Environment: JOB (the CrontabberJob's name), JOB_UID (the Kubernetes Job's uid), EVIDENCE (a folder), STUBBORN (not to
end at SIGTERM), BEHAVIOUR (JSON: `seed`, and the probabilities of `fail`, `hang`, `slow`, `noise`, `die`). In the
folder, `<JOB>.jsonl` gets a line at the start and at the end of each run, on the disk before anything else happens;
`locks/<JOB>/` has a file for each run, locked as long as its process lives, so that the later of two sees the
earlier. A file called `calm` ends all misbehaviour.
"""

import fcntl
import json
import os
import random
import signal
import sys
import time
import uuid

FOLDER = os.environ["EVIDENCE"]
JOB = os.environ["JOB"]
PATH = f"{FOLDER}/{JOB}.jsonl"
LOCKS = f"{FOLDER}/locks/{JOB}"
SLOW_SECONDS = 4
NOISE_LINES = 20_000


def main() -> None:
    """Run."""
    run_id = uuid.uuid4().hex[:12]
    hold_lock(run_id)
    run_time = os.environ.get("RUN_TIME")
    attempt = bad_in_a_row(run_time)
    tell(
        event="start",
        id=run_id,
        job=JOB,
        job_uid=os.environ["JOB_UID"],
        argv=sys.argv[1:],
        run_time=run_time,
        last_success=os.environ.get("LAST_SUCCESS"),
    )
    tell(event="beside", id=run_id, ids=living(run_id))
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: end(run_id, "terminated", 143))
    behaviour = json.loads(os.environ["BEHAVIOUR"])
    dice = random.Random(f"{behaviour['seed']} {JOB} {run_time} {attempt}")
    for what in ("noise", "slow", "hang", "fail", "die"):
        strikes = dice.random() < behaviour.get(what, 0)
        if strikes and attempt < 2 and not os.path.exists(f"{FOLDER}/calm"):
            misbehave(run_id, what)
    end(run_id, "good", 0)


def misbehave(run_id: str, what: str) -> None:
    """Do one of the things that commands do."""
    if what == "noise":
        for number in range(NOISE_LINES):
            print(f"{number} " + "noise " * 20)
    elif what == "slow":
        time.sleep(SLOW_SECONDS)
    elif what == "hang":
        while True:
            time.sleep(60)
    elif what == "fail":
        print("CommandError: the dice say so", file=sys.stderr)
        end(run_id, "failed", 1)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def hold_lock(run_id: str) -> None:
    """Lock this run's own file until the process ends, however it ends."""
    os.makedirs(LOCKS, exist_ok=True)
    lock = os.open(f"{LOCKS}/{run_id}", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)


def living(run_id: str) -> list[str]:
    """Return the other runs whose processes live."""
    found = []
    for other in os.listdir(LOCKS):
        if other == run_id:
            continue
        try:
            lock = os.open(f"{LOCKS}/{other}", os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.unlink(f"{LOCKS}/{other}")
        except BlockingIOError:
            found.append(other)
        except FileNotFoundError:
            pass
        finally:
            os.close(lock)
    return found


def bad_in_a_row(run_time: str | None) -> int:
    """Count the runs for this run time that were not good, since the last good one."""
    count = 0
    try:
        with open(PATH, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return 0
    started = {one["id"]: one["run_time"] for one in entries if one["event"] == "start"}
    good = {one["id"] for one in entries if one["event"] == "end" and one["outcome"] == "good"}
    for one, its_time in started.items():
        if its_time == run_time:
            count = 0 if one in good else count + 1
    return count


def end(run_id: str, outcome: str, code: int) -> None:
    """Write down how the run ended, and end."""
    tell(event="end", id=run_id, outcome=outcome)
    sys.stdout.flush()
    os._exit(code)


def tell(**entry: object) -> None:
    """Add a line, in one write, and have it on the disk."""
    line = json.dumps({**entry, "at": time.time()}) + "\n"
    file = os.open(PATH, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, line.encode())
    os.fsync(file)
    os.close(file)


if __name__ == "__main__":
    main()
