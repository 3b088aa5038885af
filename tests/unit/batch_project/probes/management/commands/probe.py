"""Write down what the command was given and what it found, and do what CONTROL says for its run time."""

import atexit
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

STATE = []


class Circle:
    """Only the garbage collector finds it."""

    def __del__(self):
        """Tell that it is freed."""
        tell(event="freed")


class Command(BaseCommand):
    """The command."""

    def add_arguments(self, parser):
        """Take what the operator passes."""
        parser.add_argument("--run-time", default="")
        parser.add_argument("--last-success", default="")
        parser.add_argument("--also", default="")
        parser.add_argument("words", nargs="*")

    def handle(self, *args, **options):
        """Write evidence, then behave."""
        tell(
            event="start",
            argv=sys.argv[1:],
            options={key: options[key] for key in ("run_time", "last_success", "also", "words")},
            run_time=os.environ.get("RUN_TIME"),
            last_success=os.environ.get("LAST_SUCCESS"),
            derived=os.environ.get("DERIVED"),
            pid=os.getpid(),
            started_by=settings.STARTED_BY,
            random=random.random(),
            state=list(STATE),
            open=[one.alias for one in connections.all() if one.connection is not None],
            main=sys.modules["__main__"].__file__,
        )
        STATE.append("left behind")
        os.environ["LEFT_BEHIND"] = "1"
        self.stdout.write("output of %s" % options["run_time"])
        behave(json.loads(os.environ.get("CONTROL", "{}")).get(options["run_time"], ""))
        tell(event="end", run_time=os.environ.get("RUN_TIME"))


def behave(how):
    """Do as told."""
    if how == "raise":
        raise ValueError("no such\nthing")
    if how == "command-error":
        raise CommandError("no such signature")
    if how.startswith("exit "):
        sys.exit(int(how[5:]))
    if how == "exit words":
        sys.exit("words")
    if how == "_exit 0":
        os._exit(0)
    if how == "kill itself":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill its parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)
    if how == "hang":
        time.sleep(3600)
    if how == "hang deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(event="deaf")
        time.sleep(3600)
    if how == "wait for SIGTERM":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        tell(event="waits")
        time.sleep(3600)
    if how == "at exit":
        atexit.register(tell, event="at exit")
    if how == "thread":
        threading.Thread(target=lambda: (time.sleep(0.2), tell(event="thread"))).start()
    if how == "keep":
        # Nothing but the end of the process writes the one and tells of the other.
        STATE.append(open(os.environ["EVIDENCE"], "a"))  # noqa: SIM115 - it is to stay open
        STATE[-1].write(json.dumps({"event": "in a buffer"}) + "\n")
        circle = Circle()
        circle.itself = circle
    if how == "full":
        sys.stdout.flush()
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        print("lost")
    if how == "stray":
        for new_session in (False, True):
            stray = subprocess.Popen(["sleep", "3600"], start_new_session=new_session)
            tell(event="stray", pid=stray.pid)
    if how == "open":
        connections["default"].ensure_connection()
    if how == "half a line":
        sys.stderr.write("no end")
    if how == "forge":
        print("crontabber[0000] slot 2026-01-01T09:00:00Z succeeded in 0.001 s")


def tell(**entry):
    """Add a line in one write."""
    file = os.open(os.environ["EVIDENCE"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, (json.dumps(entry) + "\n").encode())
    os.close(file)
