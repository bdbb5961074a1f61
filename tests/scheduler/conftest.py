"""What the tests of the scheduler share."""

from datetime import UTC, datetime

import pytest
import trio

from trio_otp import JobRun, current_run
from trio_otp.testing import SettableClock

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


class Diary:
    """Functions for jobs, which write down what is done with them."""

    def __init__(self) -> None:
        self.begun = trio.current_time()
        self.runs: list[JobRun] = []
        self.starts: list[float] = []  # in seconds of Trio's clock since the beginning
        self.ends: list[float] = []
        self.alive = self.most = 0

    async def work(self, seconds: float = 0, cleanup: float = 0) -> None:
        """Take a while, also to be cancelled."""
        self._begin()
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(cleanup)
            self.alive -= 1
            self.ends.append(trio.current_time() - self.begun)

    async def fail(self, error: BaseException) -> None:
        """Raise an error."""
        self._begin()
        self.alive -= 1
        raise error

    def _begin(self) -> None:
        run = current_run()
        assert run is not None
        self.runs.append(run)
        self.starts.append(trio.current_time() - self.begun)
        self.alive += 1
        self.most = max(self.most, self.alive)

    @property
    def slots(self) -> list[str]:
        """The slots of the runs, as times of day."""
        return [f"{run.slot:%H:%M:%S}" for run in self.runs]


@pytest.fixture
def clock() -> SettableClock:
    """A wall clock that begins at midnight and goes with Trio's."""
    return SettableClock(MIDNIGHT)


@pytest.fixture
async def diary() -> Diary:
    return Diary()
