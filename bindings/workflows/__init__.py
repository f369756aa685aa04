from bindings.workflows.kind import WorkflowsKind

KIND = WorkflowsKind()

__all__ = ["KIND"]
