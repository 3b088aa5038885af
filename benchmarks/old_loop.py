"""A loop in one process, as the original crontabber had one: Django started once, call_command for each slot.

Run in the web app's directory. As the original did, it keeps its own bookkeeping in the database beside the
commands' work: a lock and a state row for the job, and a log row for each run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "collector.settings")
sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as manage.py has it

began = time.monotonic()

import django  # noqa: E402 - its start-up is timed

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402

command, first, count = sys.argv[1], datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
with connection.cursor() as cursor:
    cursor.execute("create table if not exists old_state (name text primary key, ongoing text, success text)")
    cursor.execute("create table if not exists old_log (name text, slot text, seconds real)")
    cursor.execute("insert or ignore into old_state values (%s, null, null)", [command])
started = time.monotonic() - began
for number in range(count):
    slot, last = first + timedelta(hours=number), first + timedelta(hours=number - 1)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("update old_state set ongoing = %s where name = %s", [slot.isoformat(), command])
    at = time.monotonic()
    call_command(command, f"--run-time={slot:%Y-%m-%dT%H:%M}", f"--last-success={last:%Y-%m-%dT%H:%M}")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "insert into old_log values (%s, %s, %s)", [command, slot.isoformat(), time.monotonic() - at]
        )
        cursor.execute(
            "update old_state set ongoing = null, success = %s where name = %s", [slot.isoformat(), command]
        )
print(json.dumps({"seconds": time.monotonic() - began, "start": started}), file=sys.stderr)
