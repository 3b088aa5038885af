"""The table of what must not leave the cluster, and of what must stay readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.masking import (
    FILTERED,
    is_sensitive,
    known_secrets,
    mask,
    mask_arguments,
    mask_source,
)

KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

# What is printed, and the part of it that must not be there afterwards.
SECRET = [
    ("connecting to postgres://app:hunter2@db:5432/app", "hunter2"),
    ("connecting to postgres://app:hun/ter@2@db:5432/app", "hun/ter"),
    ("DATABASE_URL=postgresql+psycopg://app:hunter2@db/app?sslmode=require", "hunter2"),
    ("redis://:hunter2@redis:6379/0 refused", "hunter2"),
    ("amqp://guest:hunter%402@rabbit//", "hunter%402"),
    ("https://abcdef0123456789@o1.ingest.sentry.io/42", "abcdef0123456789"),
    ("SENTRY_DSN=https://abcdef0123456789:hunter2@sentry.example.com/42", "hunter2"),
    ("could not clone https://x-access-token:hunter2@github.com/a/b.git", "hunter2"),
    ("sqlite:///user:hunter2@host/db", "hunter2"),
    ("password=hunter2", "hunter2"),
    ("password = hunter2", "hunter2"),
    ("Password: hunter2", "hunter2"),
    ("PGPASSWORD=hunter2 psql", "hunter2"),
    ("DB_PASS=hunter2", "hunter2"),
    ("db_passwd: 'hunter 2'", "hunter 2"),
    ("user=app password=hunter2,x dbname=app", "hunter2,x"),
    ('{"user": "app", "password": "hunter2 and \\"more"}', "hunter2"),
    ('{"user": "app", "password": "hunter2 and \\"more"}', "more"),
    ("{'user': 'app', 'db_password': 'hunter2'}", "hunter2"),
    ('{"msg": "{\\"password\\": \\"hunter2\\"}"}', "hunter2"),
    ("Settings(password='hunter2', host='db')", "hunter2"),
    ("Settings(password=SecretStr('hunter2'))", "hunter2"),
    ("password=b'hunter2'", "hunter2"),
    ("password => hunter2", "hunter2"),
    ("kwargs['password'] = 'hunter2'", "hunter2"),
    ("GET /login?user=a&password=hunter2&next=/ HTTP/1.1", "hunter2"),
    ("passphrase: hunter2", "hunter2"),
    ("pwd=hunter2;", "hunter2"),
    ("accessToken: hunter2", "hunter2"),
    ("access_token=hunter2", "hunter2"),
    ("ACCESS.TOKEN=hunter2", "hunter2"),
    ("client-secret: hunter2", "hunter2"),
    ("SECRET_KEY = 'hunter2'", "hunter2"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    ("api_key=hunter2", "hunter2"),
    ("apiKey: hunter2", "hunter2"),
    ("X-Api-Key: hunter2", "hunter2"),
    ("private_key=hunter2", "hunter2"),
    ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=hunter2==;", "hunter2"),
    ("Endpoint=sb://x/;SharedAccessKeyName=y;SharedAccessKey=hunter2", "hunter2"),
    ("connection_string=Server=db;Uid=a;Pwd=hunter2", "hunter2"),
    ("credentials: hunter2", "hunter2"),
    ("auth=hunter2", "hunter2"),
    ("dsn: hunter2", "hunter2"),
    ("otp=123456", "123456"),
    ("csrfmiddlewaretoken=hunter2", "hunter2"),
    ("sessionid=hunter2; path=/", "hunter2"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=0123abcd&x=1", "0123abcd"),
    ("https://x.blob.core.windows.net/c?sv=1&sig=hunter2%3D&se=2", "hunter2"),
    ("Authorization: Bearer hunter2", "hunter2"),
    ("authorization: Basic YXBwOmh1bnRlcjI=", "YXBwOmh1bnRlcjI="),
    ("'Authorization': 'Token hunter2 and more'", "hunter2"),
    ('"Proxy-Authorization": "Negotiate hunter2"', "hunter2"),
    ("headers=[(b'authorization', b'Bearer hunter2')]", "hunter2"),
    ("Cookie: sessionid=hunter2; other=hunter3", "hunter3"),
    ("Set-Cookie: id=hunter2; HttpOnly", "hunter2"),
    ("sent Bearer abcdefgh12345678 to x", "abcdefgh12345678"),
    ("ran: manage.py work --password hunter2 --fast", "hunter2"),
    ("ran: manage.py work --db-token=hunter2 --fast", "hunter2"),
    ("argv ['manage.py', 'work', '--password', 'hunter2']", "hunter2"),
    ("ALTER USER app WITH PASSWORD 'hunter2'", "hunter2"),
    ("CREATE USER a IDENTIFIED BY 'hunter2'", "hunter2"),
    ("-----BEGIN RSA PRIVATE KEY-----\n" + KEY + "\n" + KEY + "\n-----END RSA PRIVATE KEY-----", KEY),
    ("-----BEGIN PRIVATE KEY-----\\n" + KEY + "\\n-----END PRIVATE KEY-----\\n", KEY),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\n" + KEY, KEY),
    (f"read:\n{KEY}\n{KEY}\n-----END EC PRIVATE KEY-----\ndone", KEY),
    (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n"
        + KEY
        + "\n-----END PGP PRIVATE KEY BLOCK-----",
        KEY,
    ),
    ("key AKIAIOSFODNN7EXAMPLE is disabled", "AKIAIOSFODNN7EXAMPLE"),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnop", "11ABCDEFG0"),
    ("glpat-aBcDeFgHiJkLmNoPqRsT is revoked", "aBcDeFgHiJ"),
    ("xoxb-1234567890-abcdefghij", "1234567890"),
    ("https://hooks.slack.com/services/T000/B000/hunter2", "hunter2"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39HqLyjWD"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "SyA1234567890"),
    (f"got {JWT} from x", "dozjgNryP4J3jVmNHl0w5N"),
    ("sk-proj-abcdefghijklmnopqrstuvwx", "abcdefghijklmnop"),
    ("pypi-AgEIcHlwaS5vcmcCJGFiY2RlZmdoaWprbG1ub3A", "AgEIcHlwaS5v"),
    ("sntrys_eyJpYXQiOjE3MDAwMDAwMDAuMH0=_abcdefgh", "eyJpYXQiOjE3"),
    ("SG.abcdefghijklmnopqrst.abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnop"),
    ("hvs.CAESIJabcdefghijklmnopqrstuv", "CAESIJabcdef"),
    ("SECRET_KEY is 'django-insecure-abc)def$ghi'", "abc)def$ghi"),
    ("pbkdf2_sha256$600000$salt$hunter2=", "hunter2"),
]

HARMLESS = [
    "",
    "3 tokens were read",
    "fetched https://example.com/a?b=c&d=e in 0.3 s",
    "http://localhost:8000/health",
    "2026-11-24T08:00:00Z INFO reports: done in 3 s",
    'File "/app/reports/tasks.py", line 7, in fetch_token',
    "KeyError: 'password'",
    "password=None",
    "password: null, token: ''",
    "author: Anna, authors=3",
    "mail to anna@example.com",
    'relation "auth_user" does not exist',
    'null value in column "signature_id" violates not-null constraint',
    "SELECT id FROM crashes WHERE signature = $1",
    "updated 12 signatures of 400 crashes",
    "-----BEGIN CERTIFICATE-----",
    "compass: north",
    "bypass=1",
    "basic auth is off",
    "designs: 3",
]


@pytest.mark.parametrize(("text", "secret"), SECRET, ids=[str(number) for number in range(len(SECRET))])
def test_secret_does_not_leave(text: str, secret: str) -> None:
    """Each of these is masked, alone and between other lines, and masking it again changes nothing."""
    assert secret in text
    masked = mask(text)
    assert secret not in masked
    assert FILTERED in masked
    assert mask(masked) == masked
    among = mask(f"before\n{text}\nafter\n")
    assert secret not in among
    assert among.startswith("before\n")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """Ordinary output is not touched."""
    assert mask(text) == text


def test_the_rest_of_a_line_stays_readable() -> None:
    """Only the secret goes: who, where and what stays."""
    assert (
        mask("postgres://app:hunter2@db:5432/app: timeout") == f"postgres://{FILTERED}@db:5432/app: timeout"
    )
    assert mask("user=app password=hunter2 host=db") == f"user=app password={FILTERED} host=db"
    assert mask("{'password': 'hunter2', 'host': 'db'}") == f"{{'password': '{FILTERED}', 'host': 'db'}}"
    assert mask(f"a\n{KEY}\n-----END PRIVATE KEY-----\nb") == f"a\n{FILTERED}\nb"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("connect(password=get_password(), token=self.token)", None),
        ("def login(user: str, password: str | None = None) -> Token:", None),
        ("password = os.environ['DB_PASSWORD']", None),
        ("raise KeyError(token)", None),
        ('connect("db", password="hunter2")', f'connect("db", password="{FILTERED}")'),
        ("API_KEY: Final = 'hunter2'", "API_KEY: Final = 'hunter2'"),
        ('raise KeyError("no password=hunter2 here")', f'raise KeyError("no password={FILTERED} here")'),
        ("url = 'postgres://a:hunter2@db/x'", f"url = 'postgres://{FILTERED}@db/x'"),
        ("token = 'ghp_16C7e42F292c6912E7710c838347Ae178B4a'", f"token = '{FILTERED}'"),
    ],
)
def test_source_code_keeps_its_names(line: str, masked: str | None) -> None:
    """In a traceback's lines of code only literals are masked; an expression tells nobody its value."""
    assert mask_source(line) == (line if masked is None else masked)


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        (["--password=hunter2"], [f"--password={FILTERED}"]),
        (["--password", "hunter2", "--fast"], ["--password", FILTERED, "--fast"]),
        (["--password", "--fast", "slow"], ["--password", "--fast", "slow"]),
        (["--api-key=$(API_KEY)"], [f"--api-key={FILTERED}"]),
        (["--token="], ["--token="]),
        (["--dsn", "https://k@sentry.example.com/1"], ["--dsn", FILTERED]),
        (["--url=postgres://a:hunter2@db/x"], [f"--url=postgres://{FILTERED}@db/x"]),
        (["PGPASSWORD=hunter2"], [f"PGPASSWORD={FILTERED}"]),
        (["--run-time=2026-11-24T08:00", "--limit", "5", "a b"], None),
        (["--pass-last-success", "x", "--author=Anna"], None),
        (["--copied=hunter2"], [f"--copied={FILTERED}"]),
    ],
)
def test_values_of_sensitive_options_are_masked(arguments: list[str], masked: list[str] | None) -> None:
    """Behind `=` or as the next argument; what is known to be secret is masked wherever it stands."""
    known = {"hunter2"} if "--copied=hunter2" in arguments else set()
    assert mask_arguments(arguments, known) == tuple(arguments if masked is None else masked)


def test_secrets_of_arguments_and_template_are_known_wherever_they_are_printed() -> None:
    """A value given in an option or written into the template is found in plain sentences too."""
    known = known_secrets(
        [
            "work",
            "--password",
            "hunter2",
            "--token=hunter3",
            "--url=mysql://a:hunter%204@db/x",
            "--pin=$(PIN)",
        ],
        [
            {"name": "DB_PASSWORD", "value": "hunter5"},
            {"name": "CACHE", "value": "redis://:hunter6@redis/0"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "DEBUG", "value": "false"},
            {"name": "AUTH", "value": "true"},
            {"name": "SHORT_SECRET", "value": "abc"},
            {"name": "PLAIN", "value": "production"},
        ],
    )
    assert known == {
        "hunter2",
        "hunter3",
        "hunter%204",
        "hunter 4",
        "hunter5",
        "hunter6",
        "redis://:hunter6@redis/0",
    }
    said = mask("tried hunter2, hunter3, hunter 4, hunter5 and hunter6 in production", known)
    assert said == f"tried {FILTERED}, {FILTERED}, {FILTERED}, {FILTERED} and {FILTERED} in production"


@pytest.mark.parametrize(
    "name", ["--password", "DB_PASS", "apiToken", "client_secret", "--ssh-key", "SENTRY_DSN", "AUTH"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    """In every spelling of the words."""
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name", ["--author", "--key", "--limit", "DATABASE_HOST", "--passed", "--monkey", "compass"]
)
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    """Words that only contain one."""
    assert not is_sensitive(name)


@given(st.text(st.sampled_from("ab:=/@'\"\\ \n-_.&"), max_size=200) | st.text(max_size=100))
def test_no_text_makes_masking_fail(text: str) -> None:
    """Any text is masked, also twice."""
    once = mask(f"password=hunter2 {text}")
    assert "hunter2" not in once
    mask_source(text)
    mask_arguments(text.split(" "))


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "password",
        "://",
        "-",
        "--a",
        "'",
        '"',
        "password='",
        "a:",
        "token=\\",
        "-----BEGIN PRIVATE KEY-----",
        "eyJ",
        "Basic ",
        " ",
        "A" * 20 + "\n",
    ],
)
def test_masking_takes_time_in_proportion(piece: str) -> None:
    """The regular expressions go over 64 KiB of any repetition in one go (pytest's timeout would tell)."""
    text = piece * (65536 // len(piece))
    assert len(mask(text)) < 3 * len(text)


def test_very_long_lines_are_cut() -> None:
    """Masking one must not take long, and nobody reads it."""
    masked = mask("a\n" + "x" * 10_000 + "\nb")
    assert masked == "a\n" + "x" * 8192 + "… (1808 characters more)\nb"


BODY = "A1b2C3d4" * 5
HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "shape",
    [
        *(f"{prefix}IOSFODNN7EXAMPLE" for prefix in ("AKIA", "ASIA", "ABIA", "ACCA")),
        *(f"gh{kind}_{BODY}" for kind in "pousr"),
        *(f"gl{kind}-{BODY}" for kind in ("pat", "rt", "ptt", "dt", "cbt", "soat")),
        *(f"xox{kind}-{BODY}" for kind in "abeoprs"),
        *(f"{kind}k_{mode}_{BODY}" for kind in "srp" for mode in ("live", "test")),
        *(f"do{kind}_v1_{HEX}" for kind in "opr"),
        *(f"hv{kind}.{BODY}" for kind in "bsr"),
        *(f"sntry{kind}_{BODY}" for kind in "suai"),
        *(
            f"{prefix}{BODY}"
            for prefix in ("github_pat_", "xapp-", "whsec_", "AIza", "ya29.", "GOCSPX-", "sk-")
        ),
        *(
            f"{prefix}{BODY}"
            for prefix in ("npm_", "pypi-", "dckr_pat_", "dckr_oat_", "hf_", "django-insecure-")
        ),
        *(f"{prefix}${BODY}" for prefix in ("argon2", "bcrypt", "bcrypt_sha256", "pbkdf2_sha1$1")),
        *(f"{prefix}{HEX}" for prefix in ("SK", "key-")),
        f"AGE-SECRET-KEY-1{BODY.upper()}",
        f"SG.{BODY}.{BODY}",
        f"hooks.slack.com/workflows/{BODY}",
        f"eyJ{BODY}.eyJ{BODY}.{BODY}",
    ],
)
def test_tokens_are_known_by_their_shape(shape: str) -> None:
    """Each kind, alone in a line of which nothing else says that it holds a secret."""
    assert mask(f"x {shape} y") == mask_source(f"x {shape} y") == f"x {FILTERED} y"
