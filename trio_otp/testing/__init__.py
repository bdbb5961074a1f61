"""A test kit for supervised programs, and for any Trio code.

The fixtures `supervised`, `events` and `trio_otp_seed` come from the pytest plugin that
is installed with the package; these are the names to import.
"""

from ._cancelling import cancel_everywhere as cancel_everywhere
from ._chaos import Blow as Blow
from ._chaos import Kind as Kind
from ._chaos import chaos as chaos
from ._clock import SettableClock as SettableClock
from ._crashing import Crashing as Crashing
from ._crashing import InjectedCrash as InjectedCrash
from ._crashing import crash_everywhere as crash_everywhere
from ._events import Events as Events
from ._inside import seeded as seeded
from ._leaks import leaks as leaks
from ._supervised import Supervised as Supervised
from ._supervised import UnfinishedWork as UnfinishedWork

__all__ = (  # noqa: RUF022  # by subject
    # what the fixtures give
    "Supervised", "UnfinishedWork", "Events",
    # breaking things on purpose
    "cancel_everywhere", "crash_everywhere", "Crashing", "InjectedCrash",
    "chaos", "Blow", "Kind",
    # telling the time
    "SettableClock",
    # proving that all is well
    "leaks", "seeded",
)  # fmt: skip

for _name in __all__:  # tracebacks and documentation say trio_otp.testing.chaos
    if getattr(globals()[_name], "__module__", "").startswith(__name__ + "."):
        globals()[_name].__module__ = __name__
