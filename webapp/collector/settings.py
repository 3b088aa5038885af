"""Settings, all from environment variables, so that the web app's pods and its jobs are configured alike.

DATABASE_URL   SQLite in this directory by default; postgres://user:password@host:5432/name in a cluster
SECRET_KEY     signs what Django signs; unset, a new one for each start
DEBUG          1 or true; off by default
ALLOWED_HOSTS  comma-separated host names that the page answers to
LOG_LEVEL      INFO by default; everything goes to stdout
SENTRY_DSN     reports errors to Sentry, where sentry-sdk is installed

Nothing here opens the database or the network.
"""

import importlib.util
import os
import secrets
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}


DEBUG = _flag("DEBUG")
# Without one, what is signed ends with the process. A default key would be a key that everybody knows.
SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_urlsafe(50)
ALLOWED_HOSTS = [
    host.strip()
    for host in os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1],webapp").split(",")
    if host.strip()
]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "crashes",
]
MIDDLEWARE = [
    # First, so that a probe by IP address is not refused as an unknown host.
    "crashes.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "collector.urls"
WSGI_APPLICATION = "collector.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}",
        conn_max_age=60,
        conn_health_checks=True,
    )
}
_database = DATABASES["default"]
if _database["ENGINE"] == "django.db.backends.sqlite3":
    # The server's workers and the jobs are processes that write to one file: readers must not stop a
    # writer (WAL), writers queue up (timeout), and a transaction takes its turn at its start (IMMEDIATE), not
    # half way through, where SQLite can only fail with "database is locked".
    _database.setdefault("OPTIONS", {}).update(
        timeout=30,
        transaction_mode="IMMEDIATE",
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    )
elif _database["ENGINE"] == "django.db.backends.postgresql":
    _database.setdefault("OPTIONS", {}).setdefault("connect_timeout", 10)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
# A crash report is a few kilobytes of JSON.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"},
    },
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"},
    },
    "root": {"handlers": ["stdout"], "level": os.environ.get("LOG_LEVEL", "INFO").upper()},
    # Django's own handlers mail the admins and print to stderr; one place for everything is enough.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}

if os.environ.get("SENTRY_DSN") and importlib.util.find_spec("sentry_sdk"):
    import sentry_sdk

    sentry_sdk.init(
        dsn=os.environ["SENTRY_DSN"],
        environment=os.environ.get("SENTRY_ENVIRONMENT"),
        release=os.environ.get("SENTRY_RELEASE"),
        send_default_pii=False,
    )
