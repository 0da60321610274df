"""How long the body of a request may be; every refusal of a body for its size is made here."""

from dataclasses import dataclass

from app.core.errors import TooLargeError


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """How long a body may be.

    Attributes:
        what: for messages: "the message".
        max_bytes: the longest body that is taken.
        setting: the environment variable that sets the limit; "" for a limit that nobody can set.
    """

    what: str
    max_bytes: int
    setting: str = ""

    def check(self, size_bytes: int | None) -> None:
        """Return if a body of this size is taken; None is a size that is not known.

        Raises:
            TooLargeError: it is not.
        """
        if size_bytes is not None and size_bytes > self.max_bytes:
            by = f" ({self.setting})" if self.setting else ""
            raise TooLargeError(f"{self.what} is larger than {self.max_bytes} bytes{by}")
