"""`crash_everywhere`: a workflow interrupted at each moment of its life must do what it does undisturbed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bindings.workflows.kind import WorkflowSpec
from edge_runtime.config.model import JsonValue
from edge_runtime.errors import UsageError
from edge_runtime.testing.crash_run import CrashRun, Lived, Scenario, Send
from edge_runtime.testing.interruptions import How, Point
from edge_runtime.testing.subject import Script, Subject, open_script
from edge_runtime.testing.surroundings import Fetch
from edge_runtime.testing.witness import Began, Witness


class CrashDifference(AssertionError):
    """An interrupted run differs from the undisturbed one; the text says where, how, and how to see it again."""


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What was tried, all of it without a difference."""

    result: Any
    """(status, output, error) of the undisturbed run."""
    outcome: Any
    commits: int
    rests: int
    tried: tuple[Point, ...]


def crash_everywhere(
    workflow: Subject,
    params: Any = None,
    *,
    binding: str | None = None,
    id: str = "under-test",
    events: Sequence[Send | tuple[str, Any]] = (),
    vars: Mapping[str, JsonValue] | None = None,
    kv: Sequence[str] = (),
    fetch: Fetch | None = None,
    witness: Witness | None = None,
    outcome: Callable[[Any], Awaitable[Any]] | None = None,
    prepare: Callable[[Any], Awaitable[Any]] | None = None,
    reset: Callable[[], None] | None = None,
    seed: int = 0,
    points_max: int | None = None,
    only: str | Point | None = None,
) -> CrashReport:
    """Run one instance undisturbed, then once for each moment at which its process can be interrupted.

    It is killed before and after every commit, killed and suspended every time that everything waits, and suspended
    after every commit; another process then goes on with what was committed. And it is evicted whenever it waits.
    Each such run must have the same result and the same recorded steps as the undisturbed one, and `outcome` must be
    the same. The body of a step that was
    recorded may not run again; one that was cut short runs once more and not more often; every attempt is billed once;
    and what the recorded attempt of a step noted must be the same.

    Not to be called inside of a trio run: it makes runs of its own, on a clock that jumps, and each is repeatable.
    Retries count as on Cloudflare: an attempt cut by a kill is one of them, so a step that may not be retried, or that
    runs at most once, legitimately fails where it is cut.

    Args:
        workflow: see `Subject`; `binding` says which workflow, where there are several.
        events: what is sent to the instance, in this order for each type; see `Send`.
        vars, kv: variables, and names of KV bindings for classes.
        fetch: answers the worker's outgoing requests. Side effects there are noted by `witness` like those of a step.
        outcome: called with env after the end; what it returns is compared, such as what an object has stored.
        prepare: called with env before the instance is created; what it wrote is durable before any interruption.
        reset: called before each run, to clear what the test keeps between steps outside of the store.
        points_max: try so many moments, chosen by `seed`, instead of all.
        only: try one moment, as a failure's text names it.
    Raises:
        CrashDifference.
    """
    sends = tuple(send if isinstance(send, Send) else Send(*send) for send in events)
    with open_script(workflow, variables=vars, kv=kv) as script:
        spec, name = _find(script, binding)
        scenario = Scenario(
            script, spec, name, id, params, sends, fetch, witness or Witness(), outcome, prepare, reset, seed
        )
        undisturbed = CrashRun(scenario).run()
        wrong = _wrong_by_itself(undisturbed)
        if wrong:
            raise CrashDifference(f"{spec.workflow} fails undisturbed (seed {seed}):\n  " + "\n  ".join(wrong))
        points = _points(undisturbed, seed, points_max, only)
        for point in points:
            found = differences(undisturbed, CrashRun(scenario, [point]).run())
            if found:
                raise CrashDifference(
                    f"{spec.workflow} differs from its undisturbed run when it is {point} (seed {seed}):\n  "
                    + "\n  ".join(found)
                    + f'\nTo see this again: crash_everywhere(..., seed={seed}, only="{point}")'
                )
    return CrashReport(undisturbed.result, undisturbed.outcome, undisturbed.commits, undisturbed.rests, tuple(points))


def _find(script: Script, binding: str | None) -> tuple[WorkflowSpec, str]:
    specs = {
        found.name: found.spec
        for found in script.config.bindings
        if isinstance(found.spec, WorkflowSpec) and found.spec.worker == script.config.name
    }
    if binding is None and len(specs) == 1:
        binding = next(iter(specs))
    if binding is None or binding not in specs:
        raise UsageError(f"binding: found {binding!r}; allowed: the name of a workflow's binding: {', '.join(specs)}")
    return specs[binding], binding


def _points(undisturbed: Lived, seed: int, points_max: int | None, only: str | Point | None) -> list[Point]:
    if only is not None:
        point = Point.read(str(only))
        if point.number > (undisturbed.rests if point.how.at_rest else undisturbed.commits):
            raise UsageError(
                f"only: found {point}; the undisturbed run has {undisturbed.commits} commits and {undisturbed.rests} "
                "rests"
            )
        return [point]
    points = [
        Point(how, number)
        for how in How
        if how is not How.EVICTED
        for number in range(1, (undisturbed.rests if how.at_rest else undisturbed.commits) + 1)
    ]
    points.append(Point(How.EVICTED, 0))
    if points_max is not None and points_max < len(points):
        chosen = set(random.Random(seed).sample(points, points_max))
        points = [point for point in points if point in chosen]
    return points


def _wrong_by_itself(lived: Lived) -> list[str]:
    found = []
    if lived.stuck:
        found.append(f"it never ends: {lived.stuck}")
    found += [f"replay found other steps than before: {drift}" for drift in lived.drift]
    found += _wrong_bills(lived)
    return found


def differences(undisturbed: Lived, lived: Lived) -> list[str]:
    """What an interrupted run did otherwise, in words; nothing if it did the same."""
    found = _wrong_by_itself(lived)
    if lived.stuck:
        return found
    if lived.result != undisturbed.result:
        found.append(f"result: was {_shown(undisturbed.result)}, is {_shown(lived.result)}")
    for step in dict.fromkeys([*undisturbed.steps, *lived.steps]):
        was, now = undisturbed.steps.get(step, "not recorded"), lived.steps.get(step, "not recorded")
        if was != now:
            found.append(f"step {step}: was {was}, is {now}")
    if lived.outcome != undisturbed.outcome:
        found.append(f"outcome: was {undisturbed.outcome!r}, is {lived.outcome!r}")
    found += [f"step {step}: its result was recorded, and its body ran again" for step in lived.repeated]
    found += _wrong_side_effects(undisturbed, lived)
    return found


def _shown(result: Any) -> str:
    status, output, error = result
    return f"{status} with {output!r}" if error is None else f"{status} by {error[0]}: {error[1]}"


def _by_step(begun: Sequence[Began]) -> dict[str, list[Began]]:
    found: dict[str, list[Began]] = {}
    for began in begun:
        found.setdefault(began.step, []).append(began)
    return found


def _wrong_bills(lived: Lived) -> list[str]:
    return [
        f"step {began.step}: attempt {began.attempt} was billed {len(began.billed)} times"
        for began in lived.begun
        if len(began.billed) != 1
    ]


def _wrong_side_effects(undisturbed: Lived, lived: Lived) -> list[str]:
    found = []
    cuts = Counter(step for cut in lived.cut for step in cut)
    before, after = _by_step(undisturbed.begun), _by_step(lived.begun)
    for step in dict.fromkeys([*before, *after]):
        was, now = before.get(step, []), after.get(step, [])
        if not was or not now:
            found.append(f"step {step}: its body ran {len(now)} times, undisturbed {len(was)} times")
            continue
        if not cuts[step]:
            if [(began.notes, began.billed) for began in now] != [(began.notes, began.billed) for began in was]:
                found.append(
                    f"step {step}: did {_deeds(now)}, undisturbed {_deeds(was)}, although it was never cut short"
                )
            continue
        if len(now) > len(was) + cuts[step]:
            found.append(
                f"step {step}: its body ran {len(now)} times, undisturbed {len(was)} times; it was cut short "
                f"{cuts[step]} times"
            )
        if now[-1].notes != was[-1].notes or now[-1].billed != was[-1].billed:
            found.append(f"step {step}: its last attempt did {_deeds(now[-1:])}, undisturbed {_deeds(was[-1:])}")
    if Counter(lived.outside) != Counter(undisturbed.outside):
        found.append(
            f"outside of steps, where a replay repeats it: {lived.outside}, undisturbed {undisturbed.outside}; "
            "put side effects into steps"
        )
    if set(lived.elsewhere) != set(undisturbed.elsewhere):
        found.append(f"in objects and handlers: {lived.elsewhere}, undisturbed {undisturbed.elsewhere}")
    return found


def _deeds(begun: Sequence[Began]) -> str:
    return "; ".join(
        f"{', '.join(began.notes) or 'nothing noted'} (billed as {', '.join(began.billed) or 'nothing'})"
        for began in begun
    )
