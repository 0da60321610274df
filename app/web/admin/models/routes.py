"""Routes and their upstreams; a credential is only ever a name here."""

from app.core.routing import RecordedRoute as RouteOut
from app.core.routing import RecordedUpstream as UpstreamOut
from app.core.routing import Route as RouteIn

__all__ = ["RouteIn", "RouteOut", "UpstreamOut"]
