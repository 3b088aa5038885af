"""Make secrets unreadable in what is about to leave the cluster: arguments, output, messages.

PURE. It errs on the side of masking: a value that was harmless is a nuisance, one that was not is an incident.
What it knows is in docs/sentry.md as a table, and each line of that table is tested. It can't know a password
in a plain sentence ("logging in with hunter2"); only where the value itself is known, from an argument or the
pod template, it is found anywhere.

Time is in proportion to the text: an output is what a stranger printed. It must not import kopf or kubernetes,
or read a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

FILTERED: Final = "[Filtered]"
"""What Sentry itself puts in place of what it scrubs."""
LINE_MAX_CHARACTERS: Final = 8192
KNOWN_MIN_CHARACTERS: Final = 4
"""Shorter values are found too often where they mean nothing."""

_NAMES = (
    r"passw(?:or)?d|passphrase|passcode|(?<![a-z])pwd|(?<![a-z])pass(?![\w-])|(?<![a-z])pw(?![a-z])"
    r"|secret|token|credential|(?<![a-z])otp(?![a-z])|(?<![a-z])jwt"
    r"|(?:api|access|private|signing|encryption|account|ssh|license|master|shared)[_. -]?key"
    r"|(?<![a-z])auth(?![a-z])|csrf|session[_-]?id|(?<![a-z])dsn(?![a-z])"
    r"|(?<=[?&-])signature|(?<![a-z])sig(?![a-z])|conn(?:ection)?[_-]?str(?:ing)?"
    r"|authorization|cookie"
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
_HARMLESS = frozenset({"none", "null", "true", "false", "''", '""', FILTERED.lower().rstrip("]")})

_QUOTED = r"[bBuUrRfF]{0,2}(?:\"(?:[^\"\\\n]|\\.)*(?:\"|$)|'(?:[^'\\\n]|\\.)*(?:'|$))"
# Behind a name: what may close it, and what leads to the value. Names in JSON within JSON have \" around them.
_TO_VALUE = r"[\w.-]{0,64}\\{0,3}[\"'\]]{0,2}[ \t]{0,3}(?:=>|:=|==?|:)[ \t]{0,3}"
_PAIR = re.compile(
    rf"(?P<head>(?:{_NAMES}){_TO_VALUE}(?:SecretStr\(|\\{{1,3}}(?=[\"']))?)(?P<value>{_QUOTED}|[^\s&\"'<>]+)",
    re.IGNORECASE | re.MULTILINE,
)
_LITERAL = re.compile(_QUOTED)
_PAIR_IN_SOURCE = re.compile(rf"(?P<head>(?:{_NAMES}){_TO_VALUE})(?P<value>{_QUOTED})", re.IGNORECASE)
_HEADER = re.compile(
    r"(?P<head>(?:authorization|cookie)\\{0,3}[\"']?[ \t]{0,3}[:=,][ \t]{0,3}\\{0,3}[bB]?[\"']?)"
    r"(?P<value>[^\"'\n\\]+)",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"(?P<head>\b(?:Bearer|Basic|Digest|Token|ApiKey|AWS4-HMAC-SHA256)[ \t]+)(?P<value>[A-Za-z0-9._~+/=:-]{8,})"
)
_OPTION = re.compile(
    rf"(?P<head>(?<![\w-])--?[\w-]{{0,64}}?(?:{_NAMES})[\w-]{{0,64}}[\"']?(?:[ \t]*,[ \t]*|[ \t]+)[\"']?)"
    r"(?P<value>(?!-)[^\s\"',]+)",
    re.IGNORECASE,
)
_SQL = re.compile(rf"(?P<head>\b(?:password|identified[ \t]+by)[ \t]+)(?P<value>{_QUOTED})", re.IGNORECASE)
_URL = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.-]{0,30}:/{2,3})"
    r"(?P<value>[^\s/?#@'\"<>]{1,512}@|[^\s:/@'\"<>]{0,256}:[^\s'\"<>]{1,1024}@)",
    re.IGNORECASE,
)
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s\\,:-]*"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BASE64_LINE = re.compile(r"\s*(?:[A-Za-z0-9+/=]{16,})?\s*")
_SHAPES = re.compile(
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bgl(?:pat|rt|ptt|dt|cbt|soat)-[\w-]{20,}"  # GitLab
    r"|\bxox[abeoprs]-[\w-]{10,}|\bxapp-[\w-]{10,}|hooks\.slack\.com/(?:services|workflows)/[\w/]+"
    r"|\b[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|\bwhsec_[A-Za-z0-9+/=]{10,}"  # Stripe
    r"|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}"  # Google
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JWT
    r"|\bsk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic
    r"|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{30,}|\bdckr_(?:pat|oat)_[\w-]{20,}|\bhf_[A-Za-z0-9]{20,}"
    r"|\bsntry[a-z]_[\w=+/-]{20,}"  # Sentry
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bSK[0-9a-f]{32}\b|\bkey-[0-9a-f]{32}\b"  # SendGrid, Twilio, Mailgun
    r"|\bdo[opr]_v1_[0-9a-f]{32,}|\bhv[bsr]\.[\w-]{20,}|\bAGE-SECRET-KEY-1[A-Z0-9]{20,}"
    r"|\bdjango-insecure-[^\s'\"]+|\bpbkdf2_sha\d+\$\d+\$[^\s'\"]+|\bargon2\$[^\s'\"]+|\bbcrypt\w*\$[^\s'\"]+"
)

# What a line must hold, at least, for the expressions above to find anything.
_NAME_HINTS: Final = re.findall(
    r"\S+", "pass pw secret token credential otp jwt key auth csrf session dsn sig conn cookie identified"
)
_SCHEME_HINTS: Final = ("Bearer", "Basic", "Digest", "Token", "ApiKey", "AWS4-HMAC-SHA256")
_SHAPE_HINTS: Final = re.findall(
    r"\S+",
    "AKIA ASIA ABIA ACCA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- glrt- glptt- gldt- glcbt- glsoat- xox xapp-"
    " hooks.slack.com k_live_ k_test_ whsec_ AIza ya29. GOCSPX- eyJ sk- npm_ pypi- dckr_ hf_ sntr SG. SK key-"
    " doo_v1_ dop_v1_ dor_v1_ hvb. hvs. hvr. AGE-SECRET-KEY-1 django-insecure- pbkdf2_ argon2$ bcrypt",
)


def is_sensitive(name: str) -> bool:
    """Whether an option, variable or key of this name holds a secret."""
    return _NAME.search(name) is not None


def mask(text: str, known: Iterable[str] = ()) -> str:
    """Mask what looks like a secret, and these values wherever they stand. Very long lines are cut."""
    text = _mask_keys(_mask_known(text, known))
    return "\n".join([_mask_line(line) for line in text.split("\n")])


def _mask_line(line: str) -> str:
    # Line by line, and those without a hint not at all: a regular expression lets no other thread run.
    if len(line) > LINE_MAX_CHARACTERS:
        line = f"{line[:LINE_MAX_CHARACTERS]}… ({len(line) - LINE_MAX_CHARACTERS} characters more)"
    if "://" in line or ":/" in line:
        line = _URL.sub(rf"\g<head>{FILTERED}@", line)
    lower = line.lower()
    if any(hint in lower for hint in _NAME_HINTS):
        line = _HEADER.sub(_masked, line)
        line = _OPTION.sub(_masked, line)
        line = _PAIR.sub(_masked, line)
        line = _SQL.sub(_masked, line)
    return _mask_shapes(line)


def _mask_shapes(line: str) -> str:
    if any(hint in line for hint in _SCHEME_HINTS):
        line = _SCHEME.sub(_masked, line)
    return _SHAPES.sub(FILTERED, line) if any(hint in line for hint in _SHAPE_HINTS) else line


def mask_source(line: str, known: Iterable[str] = ()) -> str:
    """Mask literals in a line of source code, and within them; its names and expressions are no secrets."""
    line = _LITERAL.sub(lambda literal: mask(literal[0]), _mask_keys(_mask_known(line, known)))
    line = _URL.sub(rf"\g<head>{FILTERED}@", line)
    line = _PAIR_IN_SOURCE.sub(_masked, line)
    return _mask_shapes(_SQL.sub(_masked, line))


def mask_arguments(arguments: Sequence[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Mask the values of sensitive options, and what looks like a secret in all others."""
    known = tuple(known)
    masked: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_option = argument.startswith("-")
        if is_value and not is_option:
            masked.append(FILTERED)
        elif equals and is_sensitive(name):
            masked.append(f"{name}={FILTERED}" if value else argument)
        else:
            masked.append(mask(argument, known))
        is_value = is_option and not equals and is_sensitive(argument)
    return tuple(masked)


def known_secrets(arguments: Sequence[str], environment: Iterable[Mapping[str, Any]] = ()) -> frozenset[str]:
    """Collect secret values: of sensitive options, and of variables written out in a pod template.

    `environment` is a container's `env`, as the API has it.
    """
    values: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_option = argument.startswith("-")
        if is_value and not is_option:
            values.append(argument)
        elif equals and is_sensitive(name):
            values.append(value)
        values += _passwords(argument)
        is_value = is_option and not equals and is_sensitive(argument)
    for variable in environment:
        value = str(variable.get("value") or "")
        values += _passwords(value)
        if is_sensitive(str(variable.get("name") or "")) or _URL.search(value):
            values.append(value)
    # A reference such as $(PASSWORD) is not the value.
    return frozenset(
        value
        for value in values
        if len(value) >= KNOWN_MIN_CHARACTERS
        and value.lower() not in _HARMLESS
        and not (value.startswith("$(") and value.endswith(")"))
    )


def _passwords(text: str) -> list[str]:
    found: list[str] = []
    for match in _URL.finditer(text):
        _, colon, password = match["value"][:-1].partition(":")
        if colon:
            found += {password, unquote(password)}
    return found


def _masked(match: re.Match[str]) -> str:
    value = match["value"]
    if value.rstrip(",;)}]").lower() in _HARMLESS or value.startswith(FILTERED):
        return match[0]
    quote = value.lstrip("bBuUrRfF")[:1]
    closed = quote in ("'", '"')
    return f"{match['head']}{quote}{FILTERED}{quote}" if closed else f"{match['head']}{FILTERED}"


def _mask_known(text: str, known: Iterable[str]) -> str:
    for value in sorted(known, key=len, reverse=True):
        text = text.replace(value, FILTERED)
    return text


def _mask_keys(text: str) -> str:
    """Mask private keys, also those of which the beginning was cut off."""
    if "PRIVATE KEY" not in text:
        return text
    text = _PEM.sub(FILTERED, text)
    while (end := _PEM_END.search(text)) is not None:
        lines = text[: end.start()].rstrip().split("\n")
        lines.pop()  # the last line of a key may be short
        while lines and _BASE64_LINE.fullmatch(lines[-1]):
            lines.pop()
        text = "\n".join([*lines, FILTERED]) + text[end.end() :]
    return text
