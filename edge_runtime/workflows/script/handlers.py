"""Rollback handlers: how scripts give them to `step.do`, and how they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.core.journal import StepConfig
from edge_runtime.workflows.script.calls import Call
from edge_runtime.workflows.script.config import read_config
from edge_runtime.workflows.script.errors import fatal

_NAMES: Final = {"ctx": "ctx", "error": "error", "output": "output", "stepName": "stepName", "step_name": "stepName"}


class Handler(msgspec.Struct, frozen=True):
    """What the script gave, unchecked: `options` is Cloudflare's trailing object, the other two are given by name."""

    function: Any = None
    config: object = None
    options: object = None

    def read(
        self, name: str, shown_config: Mapping[str, Any], blocking: Callable[[Any], bool]
    ) -> tuple[StepConfig | None, Call | None]:
        """The configuration to be recorded and the call. Raises WorkflowFatalError with Cloudflare's texts."""
        function, config = self.function, self.config
        if self.options is not None:
            if not isinstance(self.options, Mapping) or function is not None:
                raise fatal(f'Rollback options for "{name}" must be an object')
            function, config = self.options.get("rollback"), self.options.get("rollbackConfig")
        elif function is None:
            if config is not None:
                raise fatal(f'Rollback for "{name}" must be a function')
            return None, None
        if not callable(function):
            raise fatal(f'Rollback for "{name}" must be a function')
        try:
            read = read_config(config)
        except JsException as error:
            raise fatal(f'Rollback config for "{name}" is in a invalid format: {error.message}') from None
        return read.config, Call(partial(_call, function), blocking(function), read.delay, shown_config)


def _call(function: Callable[..., Any], make_given: Callable[[], Any]) -> Any:
    """Call a handler with what it asks for: parameters named as the members of what is given, or all in one."""
    given = make_given()
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    named = {parameter.name: given[_NAMES[parameter.name]] for parameter in parameters if parameter.name in _NAMES}
    if named:
        return function(**named)
    return function(given) if any(parameter.default is parameter.empty for parameter in parameters) else function()
