"""What an actor is to the rest of the runtime: an address, a body, and the services its body may use.

A Durable Object is a body that runs a user's class (`bindings.durable_objects`), a workflow instance is a body that
runs the engine (`workflows`), a cron trigger is a body with a timer and nothing else (`isolate`). Activation, timers,
the output gate, eviction and crash recovery are the host's (`actors.host`) and exist once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from edge_runtime.actors.turns import Turn
from edge_runtime.control import ActorDeath
from edge_runtime.errors import ActorBroken
from edge_runtime.event import Events
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store


class ActorKind(StrEnum):
    OBJECT = "object"
    WORKFLOW = "workflow"
    CRON = "cron"
    SCHEDULE = "schedule"

    # Addresses are looked up at every call; an Enum's own hash is a function in Python.
    __hash__ = str.__hash__

    @property
    def code(self) -> str:
        """What stands for it in keys."""
        return self[0]


class ActorAddress(NamedTuple):
    """Permanent name of an actor within a data directory.

    `worker` is the worker whose script holds the class. `namespace` is the class name of a Durable Object, the
    name of a workflow, the expression of a cron trigger. `id` is 64 hex digits for objects, the instance id for
    workflows, "" for cron. A workflow's schedule has the workflow's name and the cron expression.
    """

    worker: str
    kind: ActorKind
    namespace: str
    id: str


class ActorContext(Protocol):
    """What the host gives a body, for one activation."""

    address: ActorAddress
    number: float
    store: Store
    clock: Clock
    random: Randomness
    offload: Offload
    events: Events

    @property
    def name(self) -> str | None:
        """The name the id was made from, as far as any caller has told it; stored with the actor."""

    @property
    def due_ms(self) -> int | None:
        """When the timer fires, as of the batches queued so far."""

    @property
    def retries(self) -> int:
        """Counted retries of the timer so far; stored with the actor."""

    @property
    def scheduled_ms(self) -> int | None:
        """What the timer was first set to; earlier than `due_ms` while it is being retried."""

    def set_timer(self, batch: Batch, due_ms: int | None, *, retries: int = 0) -> None:
        """Set or clear the actor's one timer as part of `batch`. A body commits that batch without awaiting first."""

    def forget(self, batch: Batch) -> None:
        """Remove the actor's record, timer and name as part of `batch`: it has nothing stored any more. The name is
        stored again with what is written afterwards."""

    def turn(self) -> Turn:
        """The batch of the present turn: committed, in order with other batches, when the running code gives up
        control, or earlier by `flush`. What is put into it becomes durable together."""

    def flush(self) -> None:
        """Queue the present turn's batch now."""

    def discard_turn(self) -> None:
        """Drop the present turn's batch."""

    def rest(self) -> None:
        """The body has nothing to do before its timer or a message: evict it as soon as it is idle and what has begun
        is answered, unless another message comes first."""

    def commit(self, batch: Batch) -> Promise[None]:
        """Queue a batch of this actor; the output gate stays closed until it is durable.

        A batch that fails breaks the actor. After the actor was broken or released, rejects with ActorBroken.
        """

    async def wait_durable(self) -> None:
        """The output gate: return when every batch committed before this call is durable.

        Raises ActorBroken if one failed. Call it before anything leaves the actor.
        """

    @property
    def durable(self) -> bool:
        """Whether the output gate is open, and the present turn has written nothing that would close it."""

    def when_durable(self) -> Promise[None]:
        """As `wait_durable`, for code of the script: the present turn is not cut in two."""

    @property
    def refusal(self) -> ActorBroken | None:
        """Why the activation writes nothing any more; None while it lives."""

    @property
    def closed(self) -> Promise[None]:
        """Resolves when the activation has ended, in whatever way; its code may still be running then, to no effect."""

    def abort(self, error: BaseException) -> None:
        """Break this activation: its waiting calls fail with `error`, its tasks are cancelled, the next call activates
        the actor anew from what is durable."""


class ActorBody(Protocol):
    """What lives in an activated actor. All methods run on the event loop's thread."""

    async def start(self) -> None:
        """Prepare for the first event (construct the object, load the journal). An error fails the activation and
        every call that waited for it."""

    async def receive(self, message: object) -> object:
        """Process one delivered message and return the reply.

        Called in delivery order, each in a task of its own: a message starts when the one before it has given up
        control, and not before the body's `input_open` has returned.
        """

    async def timer(self) -> None:
        """The actor's timer is due, or somebody called `timers.wake` for it (then `due_ms` may lie ahead or be None).

        A due timer must have been set anew or cleared when this returns; the host calls again (never concurrently) as
        long as the stored time is due. Raising breaks the actor; the timer stays and is retried with a growing delay.
        """

    async def input_open(self) -> None:
        """Return when a new event may be delivered (the input gate); usually at once."""

    async def stop(self) -> None:
        """The activation ends in an orderly way (eviction, drain): suspend. What is durable stays."""

    @property
    def answering(self) -> bool:
        """Something that an answered message began still goes on for its caller: a streamed body. An actor that moves
        is given a while to end it."""

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing in memory would be lost by eviction."""


class BodyFactory(Protocol):
    """Makes the body of one namespace's actors; registered with the host."""

    idle_ms: int
    """How long an idle actor of this namespace stays in memory."""

    def __call__(self, context: ActorContext) -> ActorBody: ...


class Elsewhere(Protocol):
    """The way to actors that live in other isolates. The implementation is `isolate.peers.elsewhere.Peers`."""

    def forward(
        self, address: ActorAddress, message: object, name: str | None, identity: bytes | None
    ) -> Promise[object]:
        """As `ActorHost.deliver`; held as long as nobody owns the actor, and taken back if it comes here."""

    def timers_written(self, worker: str) -> None:
        """Have the worker's other isolates look at their timers."""


class ActorHost(Protocol):
    """All actors of one isolate. The implementation is `actors.host.LocalActorHost`."""

    def register(self, worker: str, kind: ActorKind, namespace: str, factory: BodyFactory) -> None:
        """Make a namespace reachable; before `run`."""

    def deliver(
        self, address: ActorAddress, message: object, *, name: str | None = None, identity: bytes | None = None
    ) -> Promise[object]:
        """Send a message; activates the actor if it is not in memory.

        `identity` (a key of Table.ANSWERS) is that of a call which may be repeated, after a crash too: the reply, in
        plain form, is stored together with what the body writes for it, and a repetition gets that reply. Whoever
        repeats the call no more deletes the record. A body that waits for its own writes to be durable before it
        returns has them committed without the reply.

        Messages sent to one address by one caller are delivered in the order of these calls. The reply is held by the
        actor's output gate. Rejects with the body's error, with ActorBroken if the actor was reset, with UsageError if
        nobody registered the namespace.
        """

    def timers_changed(self, worker: str | None = None) -> None:
        """A timer was written by someone else (another process, a batch outside of an ActorContext): look again.

        `worker` says for whose actors, if it was written here: then the isolates that they may live in hear of it too.
        """

    def death_of(self, address: ActorAddress) -> ActorDeath | None:
        """The last time that code of the actor ended an isolate, if it was lately and this isolate was told of it."""

    def owns(self, address: ActorAddress) -> bool:
        """Whether the actor lives in this isolate now, or would if it were activated."""

    def on_release(self, callback: Callable[[Callable[[ActorAddress], bool]], None]) -> None:
        """Call `callback(kept)` whenever actors were given up to other isolates; `kept(address)`: it is still here."""

    async def moved(self) -> None:
        """Return when actors may have come to this isolate, or gone."""

    @property
    def next_due_ms(self) -> int | None:
        """When the earliest timer of this isolate's actors fires; None without timers."""

    @property
    def active(self) -> int:
        """Actors in memory that are not idle."""
