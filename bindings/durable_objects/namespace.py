"""`env.<binding>` of a Durable Object class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bindings.durable_objects.stub import DurableObjectStub
from edge_runtime.actors.api import ActorAddress, ActorHost, ActorKind
from edge_runtime.actors.ids import JURISDICTIONS, DurableObjectId, IdFactory, unique_key
from edge_runtime.seams import Randomness

_ID_BYTES = 16


class DurableObjectNamespace:
    """All objects of one class. Nothing here reads storage or reaches an object; a stub's calls do."""

    __slots__ = ("_factory", "_find", "_host", "_namespace", "_part", "_random", "_worker", "cls")

    def __init__(
        self,
        host: ActorHost,
        random: Randomness,
        worker: str,
        namespace: str | Callable[[], str],
        jurisdiction: str | None = None,
        cls: type[Any] | None = None,
    ) -> None:
        """`namespace` of a class of another worker is looked up at each use: UsageError if there is no such class.
        `cls` is the class, if it is of this worker."""
        self._host = host
        self._random = random
        self._worker = worker
        self._find = None if isinstance(namespace, str) else namespace
        self._namespace = namespace if isinstance(namespace, str) else ""
        self._part = jurisdiction
        self.cls = cls
        self._factory = IdFactory(unique_key(worker, self._namespace), jurisdiction)

    @property
    def _ids(self) -> IdFactory:
        if self._find is not None and (namespace := self._find()) != self._namespace:
            self._namespace = namespace
            self._factory = IdFactory(unique_key(self._worker, namespace), self._part)
        return self._factory

    def idFromName(self, name: str) -> DurableObjectId:
        """The id that belongs to a name: the same one at each call."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a Durable Object is a string, not {type(name).__name__}")
        return self._ids.from_name(name)

    def newUniqueId(self, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectId:
        """A random id, which no name leads to. Option: jurisdiction, as for `jurisdiction()`."""
        jurisdiction = {**(options or {}), **more}.get("jurisdiction")
        ids = self._ids if jurisdiction is None else self._ids.within(_jurisdiction(jurisdiction))
        return ids.unique(self._random.bytes(_ID_BYTES))

    def idFromString(self, text: str) -> DurableObjectId:
        """The id that `id.toString()` gave; the name is not recovered. TypeError if it is none of this namespace."""
        return self._ids.from_string(text)

    def get(self, id: DurableObjectId, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectStub:
        """A stub for an object. TypeError for an id of another namespace or jurisdiction.

        Options: locationHint, which has no effect here, and routingMode, which is "primary-only".
        """
        if not isinstance(id, DurableObjectId):
            raise TypeError(f"get() takes a DurableObjectId, not {type(id).__name__}; getByName() takes a name")
        if not self._ids.owns(id):
            if self._ids.jurisdiction is not None and id.jurisdiction != self._ids.jurisdiction:
                raise TypeError("get called on jurisdictional subnamespace with an ID from a different jurisdiction")
            raise TypeError("Durable Object ID is not valid for this namespace.")
        return self._stub(id, {**(options or {}), **more})

    def getByName(self, name: str, options: Mapping[str, Any] | None = None, **more: Any) -> DurableObjectStub:
        """A stub for the object of a name; options as for `get`."""
        return self._stub(self.idFromName(name), {**(options or {}), **more})

    def jurisdiction(self, jurisdiction: str | None) -> DurableObjectNamespace:
        """The objects of this class that are restricted to a jurisdiction: the same names lead to others. None: all.

        The restriction shows in the ids and has no other effect: objects live in this data directory.
        """
        if jurisdiction is None:
            return self
        part = _jurisdiction(jurisdiction)
        return DurableObjectNamespace(self._host, self._random, self._worker, self._find or self._namespace, part)

    def _stub(self, id: DurableObjectId, options: Mapping[str, Any]) -> DurableObjectStub:
        if (mode := options.get("routingMode")) is not None and mode != "primary-only":
            raise ValueError(f"unknown routingMode: {mode}")
        hint = options.get("locationHint")
        if hint is not None and not isinstance(hint, str):
            raise TypeError(f"locationHint is a string, not {type(hint).__name__}")
        address = ActorAddress(self._worker, ActorKind.OBJECT, self._namespace, id.toString())
        return DurableObjectStub(self._host, address, id)

    id_from_name, new_unique_id, id_from_string, get_by_name = idFromName, newUniqueId, idFromString, getByName

    def __repr__(self) -> str:
        return f"<DurableObjectNamespace {self._namespace}>"


def _jurisdiction(name: object) -> str:
    if name not in JURISDICTIONS:
        raise TypeError(f"a jurisdiction is one of {', '.join(JURISDICTIONS)}, not {name!r}")
    return str(name)
