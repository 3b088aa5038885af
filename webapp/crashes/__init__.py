"""The app: crash reports come in, are processed, and are looked after by management commands."""
