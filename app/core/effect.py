"""What a rule does. A file of its own, so that the command line need not import the models."""

from enum import StrEnum


class Effect(StrEnum):
    """What a rule, or a tenant's default, does."""

    ALLOW = "allow"
    DENY = "deny"
