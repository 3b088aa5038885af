#!/usr/bin/env python
"""Django's command line for the sample web app: `python manage.py <command>`, with no settings needed."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "collector.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the setting above

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
