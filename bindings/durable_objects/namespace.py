"""`env.<binding>` of a Durable Object class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindings.durable_objects.stub import DurableObjectStub
from edge_runtime.actors.api import ActorAddress, ActorHost, ActorKind
from edge_runtime.actors.ids import DurableObjectId, IdFactory
from edge_runtime.seams import Randomness

_ID_BYTES = 16


def unique_key(worker: str, namespace: str) -> str:
    """What tells the ids of one namespace from those of another."""
    return f"{worker}-{namespace}"


class DurableObjectNamespace:
    """All objects of one class. Nothing here reads storage or reaches an object; a stub's calls do."""

    __slots__ = ("_host", "_ids", "_namespace", "_random", "_worker")

    def __init__(self, host: ActorHost, random: Randomness, worker: str, namespace: str) -> None:
        self._host = host
        self._random = random
        self._worker = worker
        self._namespace = namespace
        self._ids = IdFactory(unique_key(worker, namespace))

    def idFromName(self, name: str) -> DurableObjectId:
        """The id that belongs to a name: the same one at each call."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a Durable Object is a string, not {type(name).__name__}")
        return self._ids.from_name(name)

    def newUniqueId(self, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectId:
        """A random id, which no name leads to."""
        if {**(options or {}), **more}.get("jurisdiction") is not None:
            raise ValueError("Jurisdiction restrictions are not implemented: objects live in this data directory.")
        return self._ids.unique(self._random.bytes(_ID_BYTES))

    def idFromString(self, text: str) -> DurableObjectId:
        """The id that `id.toString()` gave; the name is not recovered. TypeError if it is none of this namespace."""
        return self._ids.from_string(text)

    def get(self, id: DurableObjectId, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectStub:
        """A stub for an object; location hints are accepted and have no effect. TypeError for an id of another
        namespace."""
        if not isinstance(id, DurableObjectId):
            raise TypeError(f"get() takes a DurableObjectId, not {type(id).__name__}; getByName() takes a name")
        digits = id.toString()
        if not self._ids.owns(digits):
            raise TypeError("Durable Object ID is not valid for this namespace.")
        return self._stub(id)

    def getByName(self, name: str, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectStub:
        return self._stub(self.idFromName(name))

    def _stub(self, id: DurableObjectId) -> DurableObjectStub:
        address = ActorAddress(self._worker, ActorKind.OBJECT, self._namespace, id.toString())
        return DurableObjectStub(self._host, address, id)

    id_from_name, new_unique_id, id_from_string, get_by_name = idFromName, newUniqueId, idFromString, getByName

    def __repr__(self) -> str:
        return f"<DurableObjectNamespace {self._namespace}>"
