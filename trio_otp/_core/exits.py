"""How a life ended. Pure: values, and what an exception that left a function means."""

from typing import Final, Literal, TypeAlias

import attrs

Reason: TypeAlias = Literal["normal", "shutdown", "killed", "crashed"]
"""The four ways a life can end."""


@attrs.frozen(eq=False)
class Exit:
    """How one life of a process ended; OTP's exit reason.

    `error` is there only for `"crashed"`; `detail` is what `ExitProcess` was given.
    """

    reason: Reason
    error: Exception | None = None
    detail: object = None
    _crash: int = attrs.field(default=0, repr=False, kw_only=True)  # tells an error's copies

    @property
    def failed(self) -> bool:
        """Whether a transient child is restarted after it."""
        return self.reason in ("crashed", "killed")

    def __str__(self) -> str:
        if self.error is not None:
            return f"crashed with {type(self.error).__name__}"
        return self.reason


NORMAL: Final = Exit("normal")
SHUTDOWN: Final = Exit("shutdown")
KILLED: Final = Exit("killed")
IGNORED: Final = Exit("normal", detail="declined to start")
