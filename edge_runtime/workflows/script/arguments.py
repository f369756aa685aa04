"""What `step.do` may be given beside the name, in its forms. TypeError, with Python's texts, for anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_LEGACY: Final = ("depends", "concurrent", "config")


def plain_arguments(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[object, object]:
    """The config and the rollback options of a plain call: what stands before the function and what after."""
    config = options.pop("config", None)
    if len(args) == 1 and not options:
        return config, None
    at = next(index for index, arg in enumerate(args) if callable(arg))
    before, after = args[:at], args[at + 1 :]
    if after and isinstance(after[0], Mapping) and "rollback" not in after[0] and not before:
        before, after = after[:1], after[1:]
    if options or len(before) > 1 or len(after) > 1 or (before and config is not None):
        unknown = f"; unknown here: {', '.join(options)}" if options else ""
        raise TypeError(f"step.do() takes a name, a config, one function and rollback options{unknown}")
    if after and callable(after[0]):
        raise TypeError("step.do() takes one function; give that which undoes the step as rollback=")
    return before[0] if before else config, after[0] if after else None


def decorator_options(
    args: tuple[Any, ...], options: dict[str, Any], *, implicit: bool
) -> tuple[Sequence[Any] | None, bool, object]:
    known = ("concurrent", "config") if implicit else _LEGACY
    if implicit and args:
        raise TypeError(
            f"WorkflowStep.do() takes from 1 to 2 positional arguments but {len(args) + 2} were given; "
            "concurrent and config are given by name"
        )
    if len(args) > len(known):
        raise TypeError(f"WorkflowStep.do() takes from 2 to 5 positional arguments but {len(args) + 2} were given")
    for name, value in zip(known, args, strict=False):
        if name in options:
            raise TypeError(f"WorkflowStep.do() got multiple values for argument '{name}'")
        options[name] = value
    for name in options:
        if name not in known:
            raise TypeError(f"WorkflowStep.do() got an unexpected keyword argument '{name}'")
    return options.get("depends"), bool(options.get("concurrent", False)), options.get("config")
