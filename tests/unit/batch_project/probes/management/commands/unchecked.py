"""The same, for commands that want no system checks."""

from probes.management.commands.probe import Command as Probe


class Command(Probe):
    """The command."""

    requires_system_checks = []
