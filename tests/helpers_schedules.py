"""Slots as short texts."""

from datetime import UTC, datetime

from trio_otp import Cron


def at(text: str) -> datetime:
    """A moment: `2026-03-29 01:00` is UTC, `2026-03-29 01:00+02:00` is not."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def slots_from(cron: Cron, after: str, number: int) -> list[datetime]:
    """The slots that follow a moment, each asked for from the one before."""
    moment, slots = at(after), []
    for _ in range(number):
        moment = cron.next_after(moment)
        slots.append(moment)
    return slots


def slots(text: str, after: str, number: int, **options) -> str:
    """The slots that follow a moment, in UTC, each without what it shares with the one before."""
    found = [
        f"{slot:%Y-%m-%d %H:%M:%S}" for slot in slots_from(Cron(text, **options), after, number)
    ]
    return ", ".join(
        shorter(slot, before) for slot, before in zip(found, ["", *found], strict=False)
    )


def shorter(slot: str, before: str) -> str:
    day, time = slot.split()
    time = time.removesuffix(":00")
    return time if before.startswith(day) else f"{day} {time}"
