"""The one place that picks concrete stores, clients and services, and hands them their settings.

folder      before services exist: the data folder, migrations, backups
stores      the database, blobs, heads of logs, the key of secrets
upstreams   clients of upstreams, and which addresses they may reach
groups      the groups of services; `build` makes all of them
releases    the groups of Go releases
modules     the groups of modules
"""

from app.wiring.folder import (
    backup_place,
    migrate,
    prepare_data_dir,
    require_restored,
    restore,
)
from app.wiring.groups import build

__all__ = ["backup_place", "build", "migrate", "prepare_data_dir", "require_restored", "restore"]
