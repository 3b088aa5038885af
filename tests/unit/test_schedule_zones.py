"""Changes of offsets are found by asking at intervals; here against what the files of the tz data list."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

from crontabber_operator.zone_offsets import DAY_SECONDS, OffsetChange, ZoneOffsets

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -4_200_000_000, 4_100_000_000  # 1836 and 2099


def zone_file(name: str) -> bytes:
    """Read a zone's file of the tzdata package."""
    return files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


# Each zone once: many names are links to others.
ZONES = {
    zone_file(name): name for name in files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
}


def listed_changes(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield moment, offset before and offset after of each change that a TZif file lists (RFC 9636)."""
    header = struct.Struct(">4s c 15x 6l")

    def counts(start: int) -> tuple[int, int, int, int, int, int]:
        _, _, is_ut, is_std, leaps, times, types, letters = header.unpack_from(data, start)
        return is_ut, is_std, leaps, times, types, letters

    is_ut, is_std, leaps, times, types, letters = counts(0)
    start = header.size + times * 5 + types * 6 + letters + leaps * 8 + is_std + is_ut
    _, _, _, times, types, _ = counts(start)
    start += header.size
    moments = struct.unpack_from(f">{times}q", data, start)
    indexes = data[start + 8 * times : start + 9 * times]
    offsets = [struct.unpack_from(">l", data, start + 9 * times + 6 * index)[0] for index in range(types)]
    offset = offsets[0]
    for moment, index in zip(moments, indexes, strict=True):
        if offsets[index] != offset:
            yield moment, offset, offsets[index]
        offset = offsets[index]


def test_all_changes_that_the_zone_files_list_are_found() -> None:
    """To the second, in every zone, from local mean time on; none is made up before the last one listed."""
    assert len(ZONES) > 300
    for data, name in ZONES.items():
        listed = [change for change in listed_changes(data) if FIRST < change[0] <= LAST]
        end = listed[-1][0] if listed else FIRST  # further changes follow a rule
        with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            offsets = ZoneOffsets(ZoneInfo.from_file(file, name))
        found = [(change.at, change.before, change.after) for change in offsets.changes(FIRST, end)]
        assert found == listed, name
        found_back = [(change.at, change.before, change.after) for change in offsets.changes_back(end, FIRST)]
        assert found_back == listed[::-1], name


def test_no_two_changes_are_nearer_than_what_is_looked_for() -> None:
    """New tz data with a shorter spell than ever would need a closer look."""
    for data, name in ZONES.items():
        moments = [moment for moment, _, _ in listed_changes(data)]
        assert all(later - earlier > 6 * DAY_SECONDS for earlier, later in pairwise(moments)), name


def test_offsets_are_those_of_zoneinfo_around_each_change() -> None:
    """A second before, at, and a second after it."""
    for name in ("Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Monrovia", "Europe/Dublin"):
        zone = ZoneInfo(name)
        offsets = ZoneOffsets(zone)
        for change in offsets.changes(FIRST, LAST):
            for instant in (change.at - 1, change.at, change.at + 1):
                local = (EPOCH + timedelta(seconds=instant)).astimezone(zone)
                assert timedelta(seconds=offsets.at(instant)) == local.utcoffset(), (name, instant)


def smooth(name: str, year: int) -> list[bool]:
    """Tell of each change of a zone in a year whether it is smooth."""
    first = (datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
    return [change.smooth for change in ZoneOffsets(ZoneInfo(name)).changes(first, first + 365 * DAY_SECONDS)]


def test_changes_by_an_hour_on_the_hour_and_not_at_midnight_are_smooth() -> None:
    """Everywhere else it has to be found out by walking which matches are slots."""
    assert smooth("Europe/Berlin", 2025) == [True, True]
    assert smooth("America/Nuuk", 2025) == [True, True]  # 23:00 on the evening before to 00:00
    assert smooth("America/Santiago", 2025) == [True, False]  # 24:00 back to 23:00; midnight missing
    assert smooth("America/Havana", 2025) == [False, False]  # midnight missing; midnight twice
    assert smooth("Asia/Beirut", 2025) == [False, True]
    assert smooth("Australia/Lord_Howe", 2025) == [False, False]  # by half an hour
    assert smooth("Antarctica/Troll", 2025) == [False, False]  # by two hours
    assert smooth("Pacific/Chatham", 2025) == [False, False]  # at 02:45
    assert smooth("Pacific/Apia", 2011) == [True, True, False]  # a day is missing


def test_a_change_reaches_as_far_as_the_clock_is_turned() -> None:
    """Around it, a local time may be missing or come twice."""
    assert OffsetChange(at=0, before=7200, after=0, smooth=False).reach == 7200
