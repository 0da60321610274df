"""`moorage doctor`: what an operator would look at, one after the other, and what to do about it.

No check changes anything. A check that can't be made is a trouble of its own, and the others go on.
"""

from app.services.doctor.checks import Doctor
from app.services.doctor.finding import Finding, Level

__all__ = ["Doctor", "Finding", "Level"]
