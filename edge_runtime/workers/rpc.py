"""What scripts import as `workers.rpc`."""

from __future__ import annotations

from edge_runtime.workers.conversion import RpcStub, python_from_rpc, python_to_rpc
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.lending import RpcTarget
from edge_runtime.workers.remote_errors import remote_error

__all__ = ["JsDict", "RpcStub", "RpcTarget", "python_from_rpc", "python_to_rpc", "remote_error"]
