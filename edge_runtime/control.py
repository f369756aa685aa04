"""Messages between supervisor, zygote, templates and isolates. Each travels as one frame (`frames`).

Descriptors accompany the frames marked so. A message from an isolate is hostile input: decoded by type, never trusted
for anything but that isolate.
"""

from __future__ import annotations

import msgspec

from edge_runtime.log_lines import Log

# supervisor -> zygote


class MakeTemplate(msgspec.Struct, tag="make_template", frozen=True):
    """Fork a template. Carries three descriptors: the template's end of its control socket, a pipe for what it and
    its isolates print, and a file for where it is while it imports the script (`metering.stack_file`)."""

    worker: str
    version: str
    config_file: str
    environment: str | None
    data_dir: str
    development: bool
    site_dirs: tuple[str, ...]
    """Folders with the worker's installed requirements, put on sys.path."""
    preload: bool
    """Import the script in the template; False when an earlier import started threads or opened sockets."""
    startup_cpu_ms: int
    """How much CPU time the import may take."""
    variables: tuple[tuple[str, str], ...] = ()
    """Set over the configuration's vars (`edge dev --var`)."""
    pinned: bool = False
    """It is to run only the workflow instances that are pinned to this version."""


# zygote -> supervisor


class TemplateForked(msgspec.Struct, tag="template_forked", frozen=True):
    """Carries one descriptor: a pidfd."""

    worker: str
    version: str
    pid: int


class TemplateExited(msgspec.Struct, tag="template_exited", frozen=True):
    pid: int
    status: int
    """As `os.waitpid` gives it; decode with os.waitstatus_to_exitcode."""


# template -> supervisor


class TemplateLoaded(msgspec.Struct, tag="template_loaded", frozen=True):
    startup_cpu_us: int
    unsafe: str | None
    """Why isolates cannot be forked from this import ("the import started 2 threads"); None when they can."""


class TemplateFailed(msgspec.Struct, tag="template_failed", frozen=True):
    """The script does not load. `detail` is a traceback for the script's author."""

    message: str
    detail: str
    cpu_us: int = 0
    """What it used before it failed."""


class IsolateForked(msgspec.Struct, tag="isolate_forked", frozen=True):
    """Carries one descriptor: a pidfd."""

    pid: int
    isolate: int


class IsolateExited(msgspec.Struct, tag="isolate_exited", frozen=True):
    isolate: int
    status: int
    """As `os.waitpid` gives it; decode with os.waitstatus_to_exitcode."""
    cpu_us: int
    """All that the process used in its life, with the children it waited for."""


# supervisor -> template


class ForkIsolate(msgspec.Struct, tag="fork_isolate", frozen=True):
    """Carries one descriptor: the isolate's end of its control socket."""

    isolate: int


# supervisor -> isolate


class Connection(msgspec.Struct, tag="connection", frozen=True):
    """Serve a client's connection. Carries one descriptor: the socket, nothing read from it yet."""


class Ping(msgspec.Struct, tag="ping", frozen=True):
    number: int


class WorkerRoutes(msgspec.Struct, frozen=True):
    """What others may reach of one worker."""

    worker: str
    routes: tuple[tuple[str, str, bool], ...]
    """Host, path, and whether the path is exact."""
    classes: tuple[tuple[str, str, str], ...] = ()
    """Classes whose actors other workers' bindings may name: kind of actor, class or workflow, namespace."""


class Routes(msgspec.Struct, tag="routes", frozen=True):
    """All workers of the server, so that an isolate can tell which requests on its connections are another's, and
    what its bindings to other workers lead to."""

    workers: tuple[WorkerRoutes, ...]


class TimersChanged(msgspec.Struct, tag="timers_changed", frozen=True):
    """Another process wrote timers or messages for actors of this worker."""


class Retire(msgspec.Struct, tag="retire", frozen=True):
    """Answer who waits for an answer, say `Drained`, release the actors when the members agree on it, close
    connections, exit. After `grace_s` everything is cancelled."""

    grace_s: float


class RunScheduled(msgspec.Struct, tag="run_scheduled", frozen=True):
    """Run the scheduled handler now, for `edge` commands and tests."""

    cron: str
    scheduled_ms: int


class ListObjects(msgspec.Struct, tag="list_objects", frozen=True):
    """Answer with `Objects`: which objects of a namespace are in memory, for `edge objects`."""

    number: int
    namespace: str


class ChargeLost(msgspec.Struct, tag="charge_lost", frozen=True):
    """Put into the ledger what a process of this worker used that could not do so itself: an isolate that was ended
    while an event ran, or a template that imported the script."""

    product: str
    kind: str
    name: str
    cpu_ns: int
    wall_ms: float
    outcome: str
    counted: bool = False
    """The event was counted before, with what it had used by then."""
    failed: bool = False
    """And that as one that does not end well."""


class ActorDeath(msgspec.Struct, frozen=True):
    """An isolate of the receiver's worker ended while code of one of its actors ran."""

    actor: int
    """As `metering.panel.actor_number` gives it."""
    kind: str
    """Kind and name of the event, as the ledger has them."""
    name: str
    at_ms: int
    until_ms: int
    """The actor is to be left alone until then."""
    alone: bool
    """No other code ran that may have ended the isolate."""
    certain: bool
    """Nor has somebody from outside."""
    reason: str
    """How the isolate ended: a sentence that begins with its subject."""


class ActorDeaths(msgspec.Struct, tag="actor_deaths", frozen=True):
    """Those of lately, one an actor, before `Members` give the actors to the receiver."""

    deaths: tuple[ActorDeath, ...]


class Members(msgspec.Struct, tag="members", frozen=True):
    """Who the actors of a worker live with, as `supervisor.membership` explains it."""

    worker: str
    me: int | None
    """The receiver's own number if it is an isolate of this worker."""
    number: int
    agreed: tuple[int, ...]
    proposed: tuple[int, ...]
    releasing: bool


class WorkerMissing(msgspec.Struct, tag="worker_missing", frozen=True):
    """Answers FindWorker: there is no such worker, or it cannot run now."""

    worker: str
    reason: str
    known: bool


class PeerConnected(msgspec.Struct, tag="peer_connected", frozen=True):
    """Another isolate, introduced. Carries one descriptor: a socket whose other end that isolate gets."""

    worker: str
    isolate: int
    asked: bool
    """The receiver asked for it, by ConnectPeer; otherwise the other one did."""


class PeerMissing(msgspec.Struct, tag="peer_missing", frozen=True):
    """Answers ConnectPeer: that isolate is gone."""

    worker: str
    isolate: int


# isolate -> supervisor


class IsolateReady(msgspec.Struct, tag="isolate_ready", frozen=True):
    """Bindings are built; connections are served from now on. Carries three descriptors: the two of `metering.panel`
    and that of `connection_marks`."""


class IsolateFailed(msgspec.Struct, tag="isolate_failed", frozen=True):
    """The isolate could not start: the script's fault (`detail`: its traceback) or the store's."""

    message: str
    detail: str


class Pong(msgspec.Struct, tag="pong", frozen=True):
    number: int
    connections: int
    events: int
    """Events in progress, background work included."""
    actors: int
    """Actors in memory that are not idle."""
    next_due_ms: int | None
    used: bool
    """An event began since the pong before, however short it was."""


class Objects(msgspec.Struct, tag="objects", frozen=True):
    number: int
    """Of the question."""
    ids: tuple[str, ...]


class Drained(msgspec.Struct, tag="drained", frozen=True):
    """This retiring isolate has no client waiting for an answer any more, or no more time for them."""


class MembersReleased(msgspec.Struct, tag="members_released", frozen=True):
    """No actor that view `number` takes from this isolate runs or writes here any more."""

    number: int


class FindWorker(msgspec.Struct, tag="find_worker", frozen=True):
    """Start another worker if need be, and keep telling its Members to this isolate."""

    worker: str


class ConnectPeer(msgspec.Struct, tag="connect_peer", frozen=True):
    """Introduce this isolate to another one."""

    worker: str
    isolate: int


class TimersWritten(msgspec.Struct, tag="timers_written", frozen=True):
    """This isolate wrote timers or messages for actors of a worker that may live elsewhere."""

    worker: str


FromSupervisor = (
    ForkIsolate
    | MakeTemplate
    | Connection
    | Ping
    | Routes
    | TimersChanged
    | Retire
    | RunScheduled
    | ListObjects
    | ChargeLost
    | ActorDeaths
    | Members
    | WorkerMissing
    | PeerConnected
    | PeerMissing
)
AskedBySomeIsolate = FindWorker | ConnectPeer | TimersWritten
FromZygote = TemplateForked | TemplateExited
FromTemplate = TemplateLoaded | TemplateFailed | IsolateForked | IsolateExited | IsolateFailed
FromIsolate = (
    IsolateReady
    | IsolateFailed
    | Pong
    | Objects
    | Drained
    | MembersReleased
    | FindWorker
    | ConnectPeer
    | TimersWritten
    | Log
)
ToSupervisor = FromZygote | FromTemplate | FromIsolate
