"""Values made from an OpenAPI schema: those it allows, with a taste for limits, and those that it does not.

The schema is the CRD's own, so what the CRD learns is fuzzed without a word here. What a schema can't say (cron
text, time zones, CEL rules) is in `GOOD` and `TRICKY`, by the name of the field.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

NASTY = (
    "",
    " ",
    "$(RUN_TIME)",
    "$$(LAST_SUCCESS)",
    "$(reboot)",
    "`id`",
    "; rm -rf /",
    "a'b\"c\\d",
    "{{7*7}}",
    "%s%n%x",
    "\n\r\t",
    "\x7f\x1b[31m",
    "ünïcödé",
    "日本語",
    "👩‍👩‍👧",
    "\u202etxt.exe",
    "\ufeff",
    "e\u0301" * 20,
    "../../etc/passwd",
    "null",
    "-",
    "--",
    "--run-time=x",
    "0",
    "NaN",
    "<script>",
)
TIMES = (
    "2026-11-24T08:00:00Z",
    "2026-11-24T08:00:00.123456789+05:45",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2024-02-29T23:59:59-12:00",
    "2199-12-31T23:59:59Z",
    "1969-12-31T23:59:59+14:00",
)
SCHEDULES = (
    "0 5 * * *",
    "*/7 * * * *",
    "30 2 * * *",
    "0 0 29 2 *",
    "0 0 31 */2 1",
    "@hourly",
    "@yearly",
    "59 23 31 12 SUN",
    "0 0 1 1 *",
    "15 3-9/2 * JAN-DEC MON,FRI",
)
GOOD: Mapping[str, Sequence[Any]] = {
    "command": ("clearsessions", "A", "_x-9"),
    "schedule": SCHEDULES,
    "frequency": ("45m", "1h", "7h", "1d", "7d", "527040m", "366d"),
    "timeZone": ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"),
    "time": ("05:00", "23:59"),
    "runTimeArgument": ("--run-time", "", "-r"),
    "lastSuccessArgument": ("--last-success", "", "-l"),
    "timeFormat": ("%Y-%m-%dT%H:%M", "%c", "%%", "%j", "ü%Y"),
    "backfillSince": ("2026-11-24T08:00:00Z", "1970-01-01T00:00:00Z", "2199-12-31T23:59:59Z"),
    "concurrencyGroup": ("reports", "a.b_c-d"),
    "name": ("other", "webapp", "x" * 40),
    "container": ("app", "crontabber"),
}
TRICKY: Mapping[str, Sequence[Any]] = {
    "schedule": (
        "61 * * * *",
        "* * * *",
        "@every 5m",
        "@reboot",
        "CRON_TZ=UTC 0 * * * *",
        "0 0 31 2 *",
        "? ? ? ? ?",
        "*/0 * * * *",
        "L * * * *",
        "0-60 * * * *",
        "1-0 * * * *",
        "* * * * 8",
        "0 0 30 2 1-",
    ),
    "frequency": ("0m", "1s", "-5m", "367d", "1.5h", "999999d", "1 h", "\u0663h"),
    "timeZone": ("Local", "Mars/Olympus", "../../etc/passwd", "Europe/berlin", "EST5EDT", "posixrules"),
    "time": ("5:00", "24:00", "05:60", "\u0660\u0665:00"),
    "timeFormat": ("%", "%Q", "%-d", "%EY", "\n", "%\x00"),
    "backfillSince": (
        "yesterday",
        "2026-02-30T00:00:00Z",
        "2026-11-24",
        "1969-12-31T00:00:00Z",
        "2026-11-24T08:00:00",
    ),
    "command": ("clear sessions", "-x", "a;b", "a\n", "../x", "a" * 254),
    "runTimeArgument": ("run-time", "--a=b", "--a b", "---", "--$x", "-", "--ü"),
    "name": ("UPPER", "a b", "-x", "x" * 64, "a..b"),
}


class Maker:
    """Makes values from schemas, all of them from one seed."""

    def __init__(self, seed: int | str, *, wildness: float = 0.1) -> None:
        """`wildness`: so probable a value is one that its schema does not want."""
        self.random = random.Random(seed)
        self.wildness = wildness

    def value(self, schema: Schema, name: str = "", depth: int = 0) -> Any:
        """Return a value for a field of this name."""
        if self.random.random() < self.wildness:
            return self.wild(schema, name)
        return self.tame(schema, name, depth)

    def tame(self, schema: Schema, name: str = "", depth: int = 0) -> Any:
        """Return a value that this schema allows."""
        chance = self.random
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if schema.get("x-kubernetes-int-or-string"):
            return chance.choice((0, 80, "http", "50%"))
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                most = min(schema.get("maxItems", 3), 3)
                return [
                    self.value(schema["items"], name, depth + 1)
                    for _ in range(chance.randint(schema.get("minItems", 0), most))
                ]
            case "boolean":
                return chance.random() < 0.5
            case "integer":
                least, most = schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)
                return chance.choice((least, most, chance.randint(least, min(most, least + 300))))
            case "number":
                return chance.choice((0.0, 1.5, 1e9))
            case _:
                return self._text(schema, name)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            return {self._word(): self.value(extra, "", depth + 1) for _ in range(self.random.randint(0, 2))}
        required = schema.get("required", ())
        probability = 0.3 if depth < 2 else 0.1
        return {
            key: self.value(part, key, depth + 1)
            for key, part in schema.get("properties", {}).items()
            if key in required or self.random.random() < probability
        }

    def _text(self, schema: Schema, name: str) -> str:
        if schema.get("format") == "date-time":
            return self.random.choice(TIMES)
        if name in GOOD:
            return str(self.random.choice(GOOD[name]))
        return self.random.choice((self._word(), self.random.choice(NASTY)))[: schema.get("maxLength", 10**6)]

    def _word(self) -> str:
        return "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(1, 12)))

    def wild(self, schema: Schema, name: str) -> Any:
        """Return a value that this schema may not want: a wrong form, past a limit, or another type."""
        chance = self.random
        others: list[Any] = [None, True, -1, 0, 2**31, 2**63 - 1, 1.5, "", [], {}, [None], {"a": 1}]
        kind = schema.get("type")
        if name in TRICKY and chance.random() < 0.6:
            return chance.choice(TRICKY[name])
        if kind == "string":
            if schema.get("format") == "date-time":
                return chance.choice((*TIMES, "never", 7))
            length = schema.get("maxLength", 1000)
            return chance.choice((*NASTY, "x" * min(length, 70000), "x" * min(length + 1, 70000), *others))
        if kind == "integer":
            return chance.choice(
                (schema.get("minimum", 0) - 1, schema.get("maximum", 2**31) + 1, -(2**63), "7", *others)
            )
        if kind == "array" and schema.get("maxItems"):
            return [
                self.tame(schema["items"], name, 3) for _ in range(schema["maxItems"] + chance.randint(0, 1))
            ]
        return chance.choice(others)
