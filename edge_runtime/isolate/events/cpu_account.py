"""The isolate's own account: what the kernel says that the process used, against what was charged and what is overhead.

Each of the figures is read from a clock of its own, so their difference says whether something was missed: the
process's CPU clock (and its children's); what user code was charged; the loop's thread clock less what was charged of
it; the clocks of the runtime's other threads. Native threads have no clock that could be read at their end: theirs is
what the process's has beyond the others, and is shown apart.
"""

from __future__ import annotations

from time import process_time_ns, thread_time_ns

from edge_runtime.compat.metered_processes import charge_processes, children_charged_ns
from edge_runtime.metering.ledger import Ledger, ProcessCpu
from edge_runtime.metering.loop_thread import attributed_on_loop_s
from edge_runtime.metering.meter import NATIVE, OVERHEAD
from edge_runtime.metering.threads import attributed_in_threads_s, charge_threads


class CpuAccount:
    def __init__(self, ledger: Ledger, child_limit_ns: int) -> None:
        self._ledger = ledger
        self._child_limit_ns = child_limit_ns
        self._before = ProcessCpu()

    def charge(self) -> list[int]:
        """Bring the account up to date, for the next flush of the ledger; for the loop's thread, outside of user code.

        Returns the pids of processes that the script started, and that were killed for their CPU time.
        """
        killed = charge_processes(self._child_limit_ns)
        charge_threads(and_stop=True)
        on_loop_ns, in_threads_ns = _ns(attributed_on_loop_s()), _ns(attributed_in_threads_s())
        overhead_ns, native_ns = _ns(OVERHEAD.cpu_s), _ns(NATIVE.cpu_s)
        loop_ns, kernel_ns = thread_time_ns(), process_time_ns()
        children_ns = children_charged_ns()
        now = ProcessCpu(
            kernel_ns=kernel_ns + children_ns,
            attributed_ns=on_loop_ns + in_threads_ns - overhead_ns + children_ns + native_ns,
            loop_ns=loop_ns - on_loop_ns,
            threads_ns=overhead_ns,
            native_ns=native_ns,
        )
        self._ledger.charge_process(now - self._before)
        self._before = now
        return killed


def _ns(time_s: float) -> int:
    return int(time_s * 1e9)
