"""The pages that show a list right now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import trio

# A page that is this many messages behind will not catch up any more.
MAX_BEHIND = 100

Channel = trio.MemorySendChannel[str]


class Viewers:
    """Everybody who looks at one list; whatever is told reaches all of them in order."""

    def __init__(self) -> None:
        self._channels: set[Channel] = set()

    @contextmanager
    def join(self) -> Iterator[tuple[Channel, trio.MemoryReceiveChannel[str]]]:
        """Be one of the viewers while in the block."""
        send, receive = trio.open_memory_channel[str](MAX_BEHIND)
        self._channels.add(send)
        with send, receive:
            try:
                yield send, receive
            finally:
                self._channels.discard(send)

    def tell(self, message: object, *, only: Channel | None = None) -> None:
        """Send ``message`` to all viewers, or to one. Never waits for any of them."""
        text = json.dumps(message)  # once, however many are looking
        for channel in [only] if only else list(self._channels):
            self._send(channel, text)

    def _send(self, channel: Channel, text: str) -> None:
        try:
            channel.send_nowait(text)
        except trio.WouldBlock:
            # Hang up. The page connects again and is shown the whole list, so
            # it misses nothing, and nobody has to wait for it.
            self._channels.discard(channel)
            channel.close()
