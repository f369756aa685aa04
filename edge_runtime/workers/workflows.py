"""What scripts import as `workers.workflows`."""

from __future__ import annotations


class NonRetryableError(Exception):
    """Raised in a step: the step fails now, without further attempts."""
