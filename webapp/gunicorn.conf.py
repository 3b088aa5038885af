"""How gunicorn serves the web app; it reads this file by itself when started in this directory.

PORT             8000 by default
WEB_CONCURRENCY  worker processes, 2 by default
"""

import os
from pathlib import Path

wsgi_app = "collector.wsgi"
bind = f"0.0.0.0:{os.environ.get('PORT') or '8000'}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
# One start-up for all workers, and one SECRET_KEY where none is configured.
preload_app = True
accesslog = "-"
# The root filesystem is read-only: heartbeats go to shared memory, and there is no control socket.
_shared_memory = "/dev/shm"  # noqa: S108 - gunicorn opens its files there safely
worker_tmp_dir = _shared_memory if Path(_shared_memory).is_dir() else None
control_socket_disable = True
