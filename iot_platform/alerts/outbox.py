"""Messages on their way: waited for a little, finished in the background, and never sent again before that.

A sensor that waits stops the daemon, and a slow mail server may take half a minute. So each message has a thread of its
own; what it came to is read at a later look of the same process.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic

from iot_platform.alerts.channels import Channel, Delivery, Undelivered
from iot_platform.alerts.messages import Message

LOOK_SECONDS = 5.0  # waited in one look, for all channels together
LONGEST_SECONDS = 60.0  # a message that takes longer counts as not delivered
UNDER_WAY = "under way"


@dataclass
class _Sending:
    """One message by one channel; ``outcome`` once it is known."""

    channel: Channel
    message: Message
    began: float = field(default_factory=monotonic)
    outcome: Delivery | None = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True, name=f"alert by {self.channel.name}")
        thread.start()
        return thread

    def _run(self) -> None:
        error = note = ""
        try:
            note = self.channel.send(self.message)
        except Undelivered as undelivered:
            error = str(undelivered)
        except Exception as defect:  # in one channel: it must not keep the others from speaking
            error = f"failed with {type(defect).__name__}"
        self.outcome = Delivery(self.channel.name, self.message, error, monotonic() - self.began, note=note)

    def now(self, longest: float) -> Delivery:
        seconds = monotonic() - self.began
        late = Delivery(self.channel.name, self.message, f"no answer within {longest:g} s", seconds)
        waiting = replace(late, error=UNDER_WAY, is_under_way=True)
        return self.outcome or (waiting if seconds < longest else late)


class Outbox:
    """What this process has under way, one message a channel."""

    def __init__(self, longest: float = LONGEST_SECONDS) -> None:
        self._longest = longest
        self._sendings: dict[str, _Sending] = {}

    def is_busy(self, channel: str) -> bool:
        return channel in self._sendings

    def ended(self) -> list[Delivery]:
        """What became known since it was last asked, of messages that were under way. Waits for nothing."""
        deliveries = [one.now(self._longest) for one in self._sendings.values()]
        self._sendings = {one.channel: self._sendings[one.channel] for one in deliveries if one.is_under_way}
        return [one for one in deliveries if not one.is_under_way]

    def send(self, messages: Mapping[Channel, Message], seconds: float = LOOK_SECONDS) -> list[Delivery]:
        """Send each message by its channel, all at once; wait at most ``seconds`` for all of them.

        One that takes longer is under way, and ``ended`` tells what it came to. Channels that are busy must be left out.
        """
        sendings = [_Sending(channel, message) for channel, message in messages.items()]
        until = monotonic() + seconds
        for thread in [one.start() for one in sendings]:
            thread.join(max(0.0, until - monotonic()))
        deliveries = [one.now(self._longest) for one in sendings]
        self._sendings |= {one.channel.name: one for one, is_ in zip(sendings, deliveries, strict=True) if is_.is_under_way}
        return deliveries


def deliver(messages: Mapping[Channel, Message], seconds: float = LONGEST_SECONDS) -> list[Delivery]:
    """Send each message by its channel, all at once, and wait for what becomes of it: for a process that ends then.

    One that is still under way after ``seconds`` counts as not delivered; should it arrive after all, it is sent twice.
    """
    return Outbox(longest=seconds).send(messages, seconds)
