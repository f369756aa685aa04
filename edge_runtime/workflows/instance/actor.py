"""A workflow instance as an actor: loads its journal, runs `run` from the top, suspends, ends.

Its storage is its journal, its timer is what it waits for next, its mailbox is the inbox table. While it waits for
nothing but times and events it may leave memory; the next activation replays.

An activation launches the engine (`launch`), and launches it again where a command asks for it: after a pause, and
after a restart, which rewrites the journal first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.control import ActorDeath
from edge_runtime.limits import QUEUED_LOOK_MS
from edge_runtime.promise import Promise
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.driver.driver import Driver
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.instance import deaths
from edge_runtime.workflows.instance.at_rest import AtRest
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.instance.launch import Launch
from edge_runtime.workflows.instance.slots import Slots
from edge_runtime.workflows.stored import inbox, instances
from edge_runtime.workflows.stored.blocks import JournalBroken
from edge_runtime.workflows.stored.inbox import Asked, DeleteAsked, RestartAsked
from edge_runtime.workflows.stored.instances import InstanceRecord, Status
from edge_runtime.workflows.stored.journal import StoredJournal

DeathOf = Callable[[ActorAddress], ActorDeath | None]
"""As `actors.api.ActorHost.death_of`."""


class Poke:
    """The message that makes an instance look into its inbox now. The reply is None, once what it read is durable."""


class WorkflowInstance:
    """`actors.api.ActorBody` of one instance."""

    def __init__(
        self,
        context: ActorContext,
        definition: WorkflowDefinition,
        idle_ms: int,
        slots: Slots | None,
        tasks: SharedTasks,
        death_of: DeathOf,
    ) -> None:
        self._context = context
        self._death_of = death_of
        self._home = instances.home_of(context.address)
        self._definition = definition
        self._at_rest = AtRest(context, self._home, definition)
        self._idle_s = idle_ms / 1000
        self._slots = slots
        self._tasks = tasks
        self._latest: Launch | None = None
        """The launch of its engine that is under way, or was the last."""
        self._launched: Promise[None] = Promise.resolved(None)
        """Pending while a launch is in progress."""
        self._stopping = False
        self._fresh = False
        """Launched for the message that comes next: what is in the inbox has been read, or will be by the script."""
        self._held_back = False
        """Something may be due and the instance has no slot to go on in."""

    # The actor's body

    async def start(self) -> None:
        await self._launch_alone()
        self._fresh = self._live_driver is not None and self._slots is None

    async def receive(self, message: object) -> object:
        await self._look()
        return None

    async def timer(self) -> None:
        context, fresh = self._context, self._fresh
        driver = await self._look()
        if fresh and (context.due_ms is None or context.due_ms > context.clock.now_ms()):
            return
        if driver is not None:
            if self._held_back:
                driver.queue(context.clock.now_ms() + QUEUED_LOOK_MS)
            else:
                driver.timer_fired()
            return
        await self._at_rest.look()

    async def input_open(self) -> None:
        return

    async def stop(self) -> None:
        self._stopping = True
        if self._latest is not None:
            self._latest.stop()

    @property
    def answering(self) -> bool:
        return False

    @property
    def idle(self) -> bool:
        launch, driver = self._latest, self._live_driver
        if driver is None:
            return (launch is None or launch.run_over.settled) and self._launched.settled
        if driver.hibernating:
            return True
        idle_s = driver.idle_s
        return not driver.busy and idle_s >= self._idle_s

    # What others have left

    async def _look(self) -> Driver | None:
        """Take what is in the inbox; returns the driver if there is one afterwards."""
        driver = self._live_driver
        fresh, self._fresh = self._fresh, False
        if fresh and driver is not None:
            self._await_events(driver)
            return driver
        if driver is not None:
            self._held_back = self._slots is not None and driver.waiting and not self._take_slot(resuming=True)
            driver.read_inbox(commands_only=self._held_back)
            self._await_events(driver)
            if self._slots is not None and not self._held_back and driver.waiting:
                driver.timer_fired()
                # Nothing may have come of it, and then no commit tells that it still waits.
                self._rested()
        if self._live_driver is None and not self._stopping:
            await self._launch_alone()
        return self._live_driver

    def _await_events(self, driver: Driver) -> None:
        """Have a timer where the script has yet to come to the waits that take what is in the inbox: whoever told of
        that regards it as heard once this look is durable."""
        if driver.waiting or driver.closed:
            return
        with self._context.store.snapshot() as snapshot:
            found = next(inbox.event_keys(snapshot, self._home), None)
        if found is not None:
            driver.look_again()

    @property
    def _live_driver(self) -> Driver | None:
        launch = self._latest
        return None if launch is None or launch.driver.closed else launch.driver

    async def _launch_alone(self) -> None:
        """Launch once nobody else does. A lock of trio's would give up control at every start."""
        while not self._launched.settled:
            await self._launched
        if self._live_driver is None:
            launched = self._launched = Promise()
            try:
                await self._launch()
            finally:
                launched.resolve(None)

    async def _launch(self) -> None:
        """Do what commands ask for and, unless it is over, paused or not its turn, run the instance."""
        context, address = self._context, self._home
        while not self._stopping:
            if self._latest is not None:
                await self._latest.run_over
            await context.wait_durable()
            with context.store.snapshot() as snapshot:
                record = instances.read(snapshot, address)
                commands = inbox.read_commands(snapshot, address)
                rewriting = any(isinstance(command, RestartAsked | DeleteAsked) for command in commands)
                over = record is None or (record.finished and not rewriting)
                events = list(inbox.event_keys(snapshot, address)) if over else []
            if record is None or over:
                await self._at_rest.drop(commands, events)
                break
            pinned = self._at_rest.pinned(record)
            if instances.actor_of(address, pinned) != context.address:
                await self._at_rest.hand_over(record, pinned)
                break
            if any(isinstance(command, DeleteAsked) for command in commands):
                await self._at_rest.delete(record)
                continue
            death = self._death_of(context.address)
            news = death is not None and deaths.is_news(record, death)
            if not news and not commands and not self._may_run(record):
                break
            try:
                if death is not None and news:
                    await self._at_rest.count_death(record, death)
                elif rewriting:
                    await self._at_rest.restart(record, commands)
                elif await self._launch_engine(record, commands):
                    break
            except JournalBroken as error:
                self._at_rest.end_broken(record, error)
                break
        if self._slots is not None and self._live_driver is None:
            self._slots.release(address.id)

    def _is_due(self, record: InstanceRecord) -> bool:
        return record.not_before_ms <= self._context.clock.now_ms()

    def _may_run(self, record: InstanceRecord) -> bool:
        """Whether its script may run now, without a command; then it has its slot."""
        # What stopped for its drift goes on with another version.
        mended = record.stopped_version is not None and record.stopped_version != self._definition.version
        runnable = self._is_due(record) and (record.status is not Status.PAUSED or mended)
        return runnable and self._take_slot(resuming=record.started_ms is not None)

    async def _launch_engine(self, record: InstanceRecord, commands: Sequence[Asked]) -> bool:
        """Make the engine, give it the commands, and have the script run. False if all is to be read again.

        Raises JournalBroken before anything else was done.
        """
        context, address = self._context, self._home
        stored = StoredJournal(context.store, address)
        engine = Engine(
            stored.entry, due_ms=context.due_ms, steps_max=self._definition.steps_max, strict=self._definition.strict
        )
        tail = await stored.load(record.seq, engine.load)
        if self._stopping:
            return True
        launch = self._latest = Launch(
            context, address, self._definition, self._tasks, record, engine, tail, self._launch_over
        )
        for command in commands:
            launch.driver.take(command)
        if launch.may_run and self._is_due(record) and self._take_slot(resuming=record.started_ms is not None):
            launch.run(self._rested)
            return True
        launch.driver.close()
        return launch.ended is None or not launch.ended.relaunch

    def _take_slot(self, *, resuming: bool) -> bool:
        return self._slots is None or self._slots.take(self._context.address.id, resuming=resuming)

    def _rested(self) -> None:
        driver = self._live_driver
        if driver is None or not driver.waiting:
            return
        if self._slots is not None:
            self._slots.release(self._context.address.id)
        if driver.hibernating:
            self._context.rest()

    def _launch_over(self, launch: Launch) -> None:
        if launch.cut:
            self._slots = None
        if launch.ended is not None and not launch.ended.relaunch:
            self._context.when_durable().add_done_callback(lambda _: self._context.rest())
        if self._slots is not None:
            self._slots.release(self._context.address.id)
