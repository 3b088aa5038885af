"""A manage.py with ideas of its own: a path that only it knows, a utility of its own, arguments added."""

import os
import sys


def run(argv):
    """Let Django run a command."""
    from django.core.management import ManagementUtility

    class Utility(ManagementUtility):
        def execute(self):
            print("custom utility")
            return super().execute()

    Utility([*argv[:2], "--also=custom", *argv[2:]]).execute()


os.environ["DJANGO_SETTINGS_MODULE"] = "probes.settings"
if __name__ == "__main__":
    run(sys.argv)
    print("after the command")
