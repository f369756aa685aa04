"""Where facets live, and what they have stored: addresses, and ranges of keys.

The namespace of a facet is its root object's with a suffix, its id that of its parent with its name after it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from edge_runtime.actors.api import ActorAddress
from edge_runtime.actors.placement import FACETS
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Table

_END_OF_ID: Final = b"\x00"  # of `store.keys`: the end of a string


def facet_address(parent: ActorAddress, name: str) -> ActorAddress:
    return ActorAddress(parent.worker, parent.kind, _namespace(parent), f"{parent.id}/{quote(name, safe='')}")


def is_within(address: ActorAddress, facet: ActorAddress) -> bool:
    """Whether the address is that of the facet, or of one within it."""
    return address == facet or (address[:3] == facet[:3] and address.id.startswith(f"{facet.id}/"))


def delete_stored(batch: Batch, facet: ActorAddress) -> None:
    """Delete the storage of a facet, and that of those within it."""
    batch.delete_range(Table.OBJECTS, *keys.prefix_range(facet.worker, facet.namespace, facet.id))
    delete_stored_within(batch, facet)


def delete_stored_within(batch: Batch, parent: ActorAddress) -> None:
    """Delete the storage of all facets within an object or a facet."""
    start, end = (keys.encode(parent.worker, _namespace(parent), parent.id + end) for end in "/0")  # "0" is after "/"
    batch.delete_range(Table.OBJECTS, start, end)


def copy_stored(batch: Batch, source: ActorAddress, to: ActorAddress) -> None:
    """Copy the storage of a facet, and that of those within it."""
    here, there = _stem(source), _stem(to)
    for end in _END_OF_ID, b"/":  # its own storage, that of those within it
        batch.copy_prefix(Table.OBJECTS, here + end, there + end)


def _namespace(parent: ActorAddress) -> str:
    return parent.namespace if parent.namespace.endswith(FACETS) else parent.namespace + FACETS


def _stem(facet: ActorAddress) -> bytes:
    """What the keys of a facet, and of those within it, begin with."""
    return keys.encode(facet.worker, facet.namespace, facet.id).removesuffix(_END_OF_ID)
