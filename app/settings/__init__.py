"""Every setting, its unit and its default. Settings are read once, at the start.

load               `load_settings`, the way in
model, sections    the models
values, urls       checkers of single values
files              checkers of files
rules              contradictions between settings
sources            environment, files, TOML
reference          the table of all settings, and docs/settings.md
"""

from app.settings.load import LoadedSettings, load, load_settings
from app.settings.model import Settings
from app.settings.sections.limits import Limits
from app.settings.sections.network import Network
from app.settings.sections.releases import Releases, Select
from app.settings.sections.storage import Storage
from app.settings.sources import Origin

__all__ = [
    "Limits",
    "LoadedSettings",
    "Network",
    "Origin",
    "Releases",
    "Select",
    "Settings",
    "Storage",
    "load",
    "load_settings",
]
