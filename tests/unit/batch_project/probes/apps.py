"""Opens what a fork must not share, and has a system check that can be made to fail."""

import os

from django.apps import AppConfig
from django.core import checks


class Probes(AppConfig):
    """The app."""

    name = "probes"

    def ready(self):
        """Count the starts, and register the check."""
        with open(os.environ["EVIDENCE"] + ".starts", "a") as file:
            file.write("started\n")
        checks.register(check)
        if os.environ.get("DATABASE"):
            from django.db import connection

            connection.ensure_connection()


def check(app_configs, **kwargs):
    """Count the checks."""
    with open(os.environ["EVIDENCE"] + ".checks", "a") as file:
        file.write("checked\n")
    failing = os.environ.get("SETTINGS_FAULT") == "check"
    return [checks.Error("the check failed", id="probes.E001")] if failing else []
