"""The API that worker scripts import as `workers`."""

from edge_runtime.workers.blob import Blob, BlobEnding, BlobValue, File
from edge_runtime.workers.context import wait_until, waitUntil
from edge_runtime.workers.conversion import python_from_rpc, python_to_rpc
from edge_runtime.workers.entrypoints import DurableObject, WorkerEntrypoint, WorkflowEntrypoint, handler
from edge_runtime.workers.environment import env, patch_env
from edge_runtime.workers.formdata import FormData, FormDataValue
from edge_runtime.workers.javascript_modules import import_from_javascript
from edge_runtime.workers.outgoing import fetch
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import FetchResponse, Response
from edge_runtime.workers.types import Body, Context, FetchKwargs, Headers, JSBody, RequestInitCfProperties

__all__ = [
    "Blob", "BlobEnding", "BlobValue", "Body", "Context", "DurableObject", "FetchKwargs", "FetchResponse", "File",
    "FormData", "FormDataValue", "Headers", "JSBody", "Request", "RequestInitCfProperties", "Response",
    "WorkerEntrypoint", "WorkflowEntrypoint", "env", "fetch", "handler", "import_from_javascript", "patch_env",
    "python_from_rpc", "python_to_rpc", "waitUntil", "wait_until",
]  # fmt: skip
