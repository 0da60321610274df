"""Print docs/settings.md."""

import sys

from app.settings import reference

sys.stdout.write(reference.markdown())
