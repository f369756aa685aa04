"""Where what is stored of an instance begins, in each of the tables that have it by its address."""

from __future__ import annotations

from edge_runtime.actors.api import ActorAddress
from edge_runtime.store import keys
from edge_runtime.workflows.journal import StepKey


def key_prefix(address: ActorAddress) -> bytes:
    """Of the keys of an instance: its blocks' keys are this followed by `keys.encode(seq)`."""
    return keys.head(address.worker, address.namespace, keys.short(address.id))


def answers_key(address: ActorAddress, key: StepKey | None = None) -> bytes:
    """Where the replies to calls of a step, or of all steps of an instance, begin in Table.ANSWERS."""
    prefix = key_prefix(address)
    return prefix if key is None else prefix + keys.encode(str(key))
