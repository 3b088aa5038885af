"""seed: fills the tables with plausible data, the same for the same arguments. For demos and tests."""

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate, product
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from crashes.models import Bug, CrashReport
from crashes.signatures import make_signature
from crashes.times import format_time, time_argument

ROWS_PER_WRITE = 1_000
KINDS_OF_CRASHES = 120
# Of the kinds of crashes, this share is there from the start; the others turn up one after the other.
KINDS_FROM_START = 0.25
NEVER_PROCESSED = 0.004
BUGS = 30
EXPIRED_SESSIONS = 25

CLASSES = (
    "gfx::Compositor",
    "gfx::GlyphCache",
    "js::gc::Marker",
    "js::jit::Lowering",
    "net::Channel",
    "net::CookieJar",
    "dom::Document",
    "dom::WorkerThread",
    "audio::Mixer",
    "storage::Connection",
    "ipc::Pipe",
    "image::Decoder",
    "layout::BlockFrame",
    "sync::Engine",
)
METHODS = ("Paint", "Flush", "Trace", "Close", "Resize", "Dispatch", "Append", "Lookup", "Release", "Read")
CALLERS = ("EventLoop::Run", "ThreadPool::Work", "Timer::Fire", "Observer::Notify")
ENDS = ("", "", "", "abort", "raise")
PRODUCTS = {"Falcon": 6, "Falcon Mobile": 3, "Courier": 1}
VERSIONS = ("141.0", "141.0.1", "142.0b3", "143.0a1")
MEMBERS = (
    # name, deactivated, days since the last login
    ("ada", False, 2),
    ("edsger", False, 30),
    ("grace", False, 1),
    ("barbara", True, 40),
    ("konrad", False, 500),
    ("niklaus", True, 700),
)


class Kind(NamedTuple):
    """One cause of crashes: its frames, how frequent it is, and from which share of the time span on."""

    frames: str
    weight: float
    begins: float


class Command(BaseCommand):
    help = "Makes crash reports, bugs, users with groups and expired sessions. Repeating it adds nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=2, metavar="N", help="how many days (default: 2)")
        parser.add_argument(
            "--crashes", type=int, default=20_000, metavar="N", help="how many (default: 20000)"
        )
        parser.add_argument(
            "--until", type=time_argument, metavar="TIME", help="end of the days (default: now)"
        )
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number, other data")

    def handle(self, *_args: str, **options: Any) -> None:
        for name in ("days", "crashes"):
            if options[name] < 1:
                raise CommandError(f"--{name} is {options[name]}: it must be at least 1")
        until = (options["until"] or timezone.now()).replace(second=0, microsecond=0)
        try:
            start = until - timedelta(days=options["days"])
        except OverflowError:
            raise CommandError(f"--days is {options['days']}: there is no such time") from None
        # All that is drawn depends on the arguments only.
        chance = random.Random(f"{options['seed']} {options['days']} {until.isoformat()}")  # noqa: S311
        kinds = _kinds(chance)
        before = CrashReport.objects.count()
        with transaction.atomic():
            crashes = _crashes(chance, kinds, start, until, options["crashes"])
            CrashReport.objects.bulk_create(crashes, ignore_conflicts=True, batch_size=ROWS_PER_WRITE)
            Bug.objects.bulk_create(_bugs(chance, kinds, start, until), ignore_conflicts=True)
            Session.objects.bulk_create(_expired_sessions(chance, until), ignore_conflicts=True)
            _add_members(until)
        added = CrashReport.objects.count() - before
        self.stdout.write(f"{added} crashes added, from {format_time(start)} to {format_time(until)}")


def _kinds(chance: random.Random) -> list[Kind]:
    names = [f"{cls}::{method}" for cls, method in product(CLASSES, METHODS)]
    chance.shuffle(names)
    kinds = []
    for rank, name in enumerate(names[:KINDS_OF_CRASHES]):
        end = chance.choice(ENDS)
        frames = [end] if end else []
        frames += [
            name,
            f"{chance.choice(CLASSES)}::{chance.choice(METHODS)}",
            chance.choice(CALLERS),
            "main",
        ]
        begins = max(0.0, (rank / KINDS_OF_CRASHES - KINDS_FROM_START) / (1 - KINDS_FROM_START))
        # A few causes make most of the crashes.
        kinds.append(Kind("\n".join(frames), 1 / (1 + rank) ** 0.8, begins))
    return kinds


def _crashes(
    chance: random.Random, kinds: list[Kind], start: datetime, until: datetime, count: int
) -> Iterator[CrashReport]:
    span = until - start
    weights = list(accumulate(kind.weight for kind in kinds))
    for _ in range(count):
        moment = chance.random()
        while chance.random() > _activity(start + moment * span):
            moment = chance.random()
        kind = chance.choices(kinds, cum_weights=weights)[0]
        while kind.begins > moment:
            kind = chance.choices(kinds, cum_weights=weights)[0]
        submitted = start + moment * span
        build = (submitted - timedelta(days=chance.randrange(1, 30))).replace(hour=9, minute=30, second=0)
        processed = min(until, submitted + timedelta(seconds=1 + chance.expovariate(1 / 20)))
        waits = chance.random() < NEVER_PROCESSED
        yield CrashReport(
            crash_id=UUID(int=chance.getrandbits(128), version=4),
            product=chance.choices(tuple(PRODUCTS), tuple(PRODUCTS.values()))[0],
            version=chance.choice(VERSIONS),
            build_id=f"{build:%Y%m%d%H%M%S}",
            frames=kind.frames,
            date_submitted=submitted,
            date_processed=None if waits else processed,
            signature="" if waits else make_signature(kind.frames),
        )


def _activity(time: datetime) -> float:
    """How busy the hour is, from 0.35 at 03:00 UTC to 1 at 15:00: crashes follow the programs' users."""
    return 0.675 - 0.325 * math.cos(math.tau * (time.hour + time.minute / 60 - 3) / 24)


def _bugs(chance: random.Random, kinds: list[Kind], start: datetime, until: datetime) -> list[Bug]:
    bugs = []
    for index in range(BUGS):
        named = chance.sample(kinds, k=chance.choice((1, 1, 2)))
        names = [make_signature(kind.frames) for kind in named]
        bugs.append(
            Bug(
                number=1_900_000 + index * 37,
                summary=f"Crash in {names[0].split(' | ')[0]}",
                status=chance.choice(("NEW", "ASSIGNED", "RESOLVED")),
                crash_signature=" ".join(f"[@ {name}]" for name in names),
                last_changed=start + chance.random() * (until - start),
            )
        )
    return bugs


def _expired_sessions(chance: random.Random, until: datetime) -> list[Session]:
    return [
        Session(
            session_key=f"{chance.getrandbits(128):032x}",
            session_data="",
            expire_date=until - timedelta(days=1 + index),
        )
        for index in range(EXPIRED_SESSIONS)
    ]


def _add_members(until: datetime) -> None:
    """Users in two groups; who is there already is left alone, so what an audit removed stays removed."""
    groups = [Group.objects.get_or_create(name=name)[0] for name in ("reviewers", "protected-data")]
    for index, (name, deactivated, idle_days) in enumerate(MEMBERS):
        last_login = until - timedelta(days=idle_days)
        user, is_new = User.objects.get_or_create(
            username=name,
            defaults={
                "is_active": not deactivated,
                "last_login": last_login,
                "date_joined": last_login - timedelta(days=100),
                "password": "!",  # no password fits: nobody can log in as one of these
            },
        )
        if is_new:
            user.groups.set(groups[: 1 + index % 2])
