"""What is passed into the runtime, as tests need it: a clock that is set, repeatable randomness."""

from __future__ import annotations


class SetClock:
    """Shows what it was set to, and whoever sleeps sets it."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now

    def monotonic_s(self) -> float:
        return self.now / 1000

    async def sleep_until_ms(self, due_ms: int) -> None:
        self.now = max(self.now, due_ms)


class CountingRandomness:
    """Distinct and repeatable."""

    def __init__(self) -> None:
        self._count = 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(count, "big")

    def uuid(self) -> str:
        self._count += 1
        return f"00000000-0000-4000-8000-{self._count:012d}"

    def ordered_id(self) -> str:
        return self.uuid()
