"""Durable Objects: actors that run a script's class, with private storage and an alarm."""

from bindings.durable_objects.kind import DurableObjectsKind

KIND = DurableObjectsKind()

__all__ = ["KIND"]
