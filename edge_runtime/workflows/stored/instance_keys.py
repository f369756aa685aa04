"""Where what is stored of an instance begins, in each of the tables that have it by its address.

The id comes first. Those that we make are ordered by time, so what is new comes after everything that is there, where
a B-tree fills its pages.
"""

from __future__ import annotations

from edge_runtime.actors.api import ActorAddress
from edge_runtime.store import keys
from edge_runtime.workflows.core.journal import StepKey


def key_prefix(address: ActorAddress) -> bytes:
    """Of the keys of an instance: its blocks' keys are this followed by `keys.encode(seq)`."""
    return keys.encode_id(address.id) + keys.head(address.worker, address.namespace)


def answers_key(address: ActorAddress, key: StepKey | None = None) -> bytes:
    """Where the replies to calls of a step, or of all steps of an instance, begin in Table.ANSWERS."""
    prefix = key_prefix(address)
    return prefix if key is None else prefix + keys.encode(str(key))
