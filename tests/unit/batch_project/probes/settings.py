"""As little as a command needs; `SETTINGS_FAULT` says what is wrong with it."""

import os
import threading
import time

SECRET_KEY = "of tests"
INSTALLED_APPS = ["probes"]
USE_TZ = True
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", ":memory:")}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STARTED_BY = os.getpid()

FAULT = os.environ.get("SETTINGS_FAULT", "")
if FAULT == "raises":
    raise RuntimeError("these settings are broken")
if FAULT == "thread":
    threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="exporter").start()
if FAULT == "unknown app":
    INSTALLED_APPS.append("no_such_app")
