"""Slots of random schedules against robfig/cron v3 itself, which the CronJob controller uses.

A small Go program (tests/oracle/) answers what robfig/cron makes of a cron text; both sides read the same
tz data, that of the tzdata package. CRONTABBER_ORACLE_COMPARISONS asks for more comparisons than the usual
20,000, CRONTABBER_ORACLE_SEED for others.
"""

from __future__ import annotations

import os
import random
import subprocess
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crontabber_operator.schedule import ScheduleError, parse_schedule
from crontabber_operator.zone_offsets import zone_offsets
from tests.go_programs import built

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPARISONS = int(os.environ.get("CRONTABBER_ORACLE_COMPARISONS", "20000"))
SEED = int(os.environ.get("CRONTABBER_ORACLE_SEED", "1970"))
ZONE_DATA = str(files("tzdata").joinpath("zoneinfo"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = 3_600, 86_400
# Half of the questions are about these: midnight is skipped or comes twice, the clock is turned by half an
# hour or by two, the hours aren't whole or offsets have seconds, daylight saving time comes and goes for
# Ramadan.
UNUSUAL_ZONES = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Asuncion",
    "America/Caracas",
    "America/Havana",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Ulaanbaatar",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Easter",
    "Pacific/Norfolk",
]
# They have skipped a whole day: robfig/cron may never come back from a walk over it.
DAY_SKIPPING_ZONES = {
    "Kwajalein",
    "Pacific/Apia",
    "Pacific/Enderbury",
    "Pacific/Fakaofo",
    "Pacific/Kanton",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
}
LAST_SKIPPED_DAY = 1_325_300_000  # 2011-12-31
# Starts are in the three years from one of these on; 2026 and 2023 three times as often.
ERAS = [1911, 1943, 1971, 1984, 1997, 2009, 2016, 2023, 2023, 2023, 2026, 2026, 2026, 2037, 2095]
WRONG_PARTS = [
    "*",
    "-",
    "/",
    ",",
    "?",
    "0",
    "7",
    "13",
    "32",
    "60",
    "+",
    " ",
    "*/",
    "-5",
    "1-",
    "x",
    "mon",
    "L",
    "#",
]
WRONG_PARTS += [
    "@",
    "TZ=",
    "_",
    ".",
    "\u00e9",
    "\u0663",
    "\x1c",
    "\v",
    "\u2003",
    "99999999999999999999",
    " 5 ",
]
MONTH_NAMES = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAY_NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True)
class Question:
    """What is asked of both: the slots that follow on a start."""

    text: str
    zone: str
    start: int
    count: int

    def __str__(self) -> str:
        """Return the line that the oracle reads."""
        return f"{self.zone}\t{self.start}\t{self.count}\t{self.text}"


@pytest.fixture(scope="module")
def oracle() -> Path:
    """Return the oracle."""
    return built(Path(__file__).parents[1] / "oracle")


@pytest.fixture(scope="module", autouse=True)
def _same_zone_data() -> Iterator[None]:
    """Let Python use the tzdata package as Go does here, not what this machine happens to have."""
    search_path = zoneinfo.TZPATH
    caches = (zoneinfo.ZoneInfo.clear_cache, zone_offsets.cache_clear, parse_schedule.cache_clear)
    zoneinfo.reset_tzpath(to=())
    for clear in caches:
        clear()
    yield
    zoneinfo.reset_tzpath(to=search_path)
    for clear in caches:
        clear()


def ask(oracle: Path, questions: list[Question]) -> list[str]:
    """Return the oracle's answers, a line a question."""
    answered = subprocess.run(
        [oracle],
        input="".join(f"{question}\n" for question in questions),
        capture_output=True,
        text=True,
        check=True,
        env={"ZONEINFO": ZONE_DATA},
        timeout=3_600,
    )
    answers = answered.stdout.splitlines()
    assert len(answers) == len(questions)
    return answers


def answer(question: Question) -> str:
    """Return what schedule.py answers, as the oracle would write it."""
    try:
        schedule = parse_schedule(question.text, question.zone)
    except ScheduleError:
        return "error"
    slots: list[int] = []
    slot: datetime | None = EPOCH + timedelta(seconds=question.start)
    while slot is not None and len(slots) < question.count:
        slot = schedule.next_after(slot)
        if slot is not None:
            slots.append((slot - EPOCH) // timedelta(seconds=1))
    return " ".join(map(str, slots))


def differ(ours: str, theirs: str) -> bool:
    """Tell whether the answers differ. Where robfig/cron goes back in time, ours must not."""
    if theirs != "back":
        return ours != theirs
    slots = [int(slot) for slot in ours.split()]
    return not slots or slots != sorted(set(slots))


def differences(oracle: Path, questions: list[Question]) -> list[str]:
    """Ask both, and return what they differ about."""
    answers = ask(oracle, questions)
    assert answers.count("back") <= len(questions) // 500
    return [
        f"{question}\n  robfig/cron: {theirs}\n  schedule.py: {ours}"
        for question, theirs in zip(questions, answers, strict=True)
        if differ(ours := answer(question), theirs)
    ]


def random_field(rng: random.Random, low: int, high: int, names: list[str] | None = None) -> str:
    """Make up a field that is accepted."""

    def value(number: int) -> str:
        if names and rng.random() < 0.3:
            name = names[number - low]
            return rng.choice([name, name.upper(), name.title()])
        return f"{number:02}" if rng.random() < 0.05 else str(number)

    def item() -> str:
        kind = rng.random()
        if kind < 0.45:
            return value(rng.randint(low, high))
        first, last = sorted((rng.randint(low, high), rng.randint(low, high)))
        if kind < 0.6:
            return f"{value(first)}-{value(last)}"
        if kind < 0.7:
            return f"{value(first)}-{value(last)}/{rng.randint(1, 12)}"
        if kind < 0.85:
            return f"{rng.choice('*?')}/{rng.randint(1, high)}"
        if kind < 0.95:
            return f"{value(first)}/{rng.randint(1, high)}"
        return rng.choice("*?")

    return ",".join(item() for _ in range(1 if rng.random() < 0.75 else rng.randint(2, 4)))


def random_text(rng: random.Random) -> str:
    """Make up a cron text, mostly of the kind that people write."""
    if rng.random() < 0.04:
        return rng.choice(["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"])

    def usually(usual: list[str], share: float, other: str) -> str:
        return rng.choice(usual) if rng.random() < share else other

    minute = usually(["0", "30", "*", "*/15", "59", "15"], 0.5, random_field(rng, 0, 59))
    hour = usually(["*", "0", "1", "2", "3", "0-3", "22-23", "*/2", "1-23/3"], 0.6, random_field(rng, 0, 23))
    month_day = usually(["*", "?"], 0.6, random_field(rng, 1, 31))
    month = usually(["*", "?"], 0.75, random_field(rng, 1, 12, MONTH_NAMES))
    weekday = usually(["*", "?", "0", "sun"], 0.7, random_field(rng, 0, 6, WEEKDAY_NAMES))
    return rng.choice([" ", " ", " ", "  ", "\u00a0"]).join([minute, hour, month_day, month, weekday])


def random_start(rng: random.Random, zone: str) -> int:
    """Pick a start, nearly always shortly before or after a change of the zone's offset."""
    era = datetime(rng.choice(ERAS), 1, 1, tzinfo=UTC)
    first = (era - EPOCH) // timedelta(seconds=1)
    last = first + 3 * 365 * DAY
    changes = list(zone_offsets(zone).changes(first, last))
    rough = [change for change in changes if not change.smooth]
    if not changes or rng.random() < 0.1:
        start = rng.randint(first, last)
    else:
        change = rng.choice(rough if rough and rng.random() < 0.5 else changes)
        reach = rng.choice([2 * HOUR, 5 * HOUR, DAY, 3 * DAY, 9 * DAY, 40 * DAY, 400 * DAY])
        start = change.at + rng.randint(-reach, reach // 2)
    return start if rng.random() < 0.2 else start - start % 60


def random_questions(seed: int, count: int) -> list[Question]:
    """Make up questions."""
    rng = random.Random(seed)
    zones = rng.sample(sorted(zoneinfo.available_timezones() - {"Factory"}), 60)
    questions: list[Question] = []
    while len(questions) < count:
        zone = rng.choice(UNUSUAL_ZONES if rng.random() < 0.5 else zones)
        start = random_start(rng, zone)
        if zone not in DAY_SKIPPING_ZONES or start > LAST_SKIPPED_DAY:
            questions.append(Question(random_text(rng), zone, start, rng.randint(1, 8)))
    return questions


def test_slots_are_those_of_robfig_cron(oracle: Path) -> None:
    """Whatever the cron text, the zone and the start: the slots that follow are the same."""
    questions = random_questions(SEED, COMPARISONS)
    different = differences(oracle, questions)
    assert not different, f"{len(different)} of {len(questions)} differ:\n" + "\n".join(different[:20])


def random_wrong_text(rng: random.Random) -> str:
    """Make up a text that is likely to be refused: characters changed, dropped, added, fields doubled."""
    characters = list(random_text(rng))
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randint(0, 2)] = rng.choice(WRONG_PARTS)
    return "".join(characters)


def test_texts_are_accepted_that_robfig_cron_accepts(oracle: Path) -> None:
    """No text that the API server refuses gets through, and none that it takes is refused."""
    rng = random.Random(SEED)
    questions = [Question(random_wrong_text(rng), "UTC", 0, 0) for _ in range(COMPARISONS)]
    # A zone has a field of its own; the API server refuses it in the text as well.
    questions = [question for question in questions if "TZ" not in question.text]
    answers = ask(oracle, questions)
    assert COMPARISONS // 10 < answers.count("error") < COMPARISONS * 9 // 10
    different = [
        f"{question.text!r}: robfig/cron: {theirs or 'accepted'}"
        for question, theirs in zip(questions, answers, strict=True)
        if answer(question) != theirs
    ]
    assert not different, "\n".join(different[:20])


def test_fields_without_a_value_are_accepted_and_never_match(oracle: Path) -> None:
    """A lone comma is a list of nothing: robfig/cron takes it, and finds nothing."""
    texts = [
        ", * * * *",
        "0 , * * *",
        "0 0 , * *",
        "0 0 * , *",
        "0 0 * * ,",
        "0 0 , * 1",
        "0 0 1 * ,",
        "0 0 , * ,",
    ]
    start = (datetime(2026, 3, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
    questions = [Question(text, zone, start, 2) for text in texts for zone in ("UTC", "Asia/Beirut")]
    assert not differences(oracle, questions)
