"""Times on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_AGO: Final = re.compile(r"(\d{1,6})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


class Instant(click.ParamType[int]):
    """ISO 8601, UTC unless it says otherwise, or a time ago such as "24h", "7d", "2w"; as ms since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if ago := _AGO.fullmatch(value):
            instant = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            try:
                instant = datetime.fromisoformat(value)
            except ValueError:
                self.fail(
                    f'{value!r} is no time; allowed: ISO 8601 such as "2026-11-01" or "2026-11-01T10:00Z", or a time '
                    'ago such as "24h", "7d" or "2w"',
                    param,
                    ctx,
                )
        aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000)
