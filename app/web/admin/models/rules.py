"""Rules, of tenants and of the platform."""

from app.core.acl import RecordedRule as RuleOut
from app.core.acl import Rule as RuleIn

__all__ = ["RuleIn", "RuleOut"]
