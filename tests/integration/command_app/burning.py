"""What a command calls that fails, in a module of its own as in any real app."""


def burn() -> None:
    """Fail."""
    raise RuntimeError("the database is on fire")
