"""A manage.py that starts another Python: nothing of it can be kept warm."""

import os
import sys

os.execv(sys.executable, [sys.executable, "manage.py", *sys.argv[1:]])
