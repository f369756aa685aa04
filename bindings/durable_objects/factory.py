"""Makes the bodies of one class's objects, and of the facets within them."""

from __future__ import annotations

from bindings.durable_objects.body import ObjectBody
from bindings.durable_objects.facets import FacetFactory, FacetStart
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.sockets import NamespaceSockets
from edge_runtime.actors.api import ActorContext


class ObjectFactory:
    """`actors.api.BodyFactory` of one class."""

    def __init__(self, of: ObjectClass, idle_ms: int, sockets: NamespaceSockets) -> None:
        self._class = of
        self._sockets = sockets
        self.idle_ms = idle_ms
        self._facets = FacetFactory(sockets.host, idle_ms, self._make_facet)

    def __call__(self, context: ActorContext) -> ObjectBody:
        return ObjectBody(context, self._class, self._sockets, self._facets)

    def _make_facet(self, context: ActorContext, start: FacetStart) -> ObjectBody:
        return ObjectBody(context, start.of, self._sockets, self._facets, start)
