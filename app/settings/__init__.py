"""Every setting, its unit and its default; read once, at the start, and never changed after.

`load_settings` is the way in. The models are in `model.py` and `sections.py`, kinds of values
in `values.py`, where values come from in `sources.py`, the table of all in `reference.py`.
"""

from app.settings.load import Loaded, load, load_settings
from app.settings.model import Settings
from app.settings.sections import Limits, Network, Releases, Select, Storage
from app.settings.sources import Origin

__all__ = [
    "Limits",
    "Loaded",
    "Network",
    "Origin",
    "Releases",
    "Select",
    "Settings",
    "Storage",
    "load",
    "load_settings",
]
