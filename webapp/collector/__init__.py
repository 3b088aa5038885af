"""The project: settings, addresses and the WSGI entry. What the app does is in `crashes`."""
