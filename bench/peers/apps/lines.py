"""The protocol of apps without HTTP: a line {"count", "together"} on the input has so many instances run at once, so
many times, and is answered by a line {"waited_ms", "elapsed_s"}: what each time took."""

import json
import sys
import time


def serve(run):
    """Answer lines with `run(together)`, which returns when so many instances have ended."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        waited_ms = []
        begun = time.perf_counter()
        for _ in range(asked["count"]):
            one = time.perf_counter()
            run(asked["together"])
            waited_ms.append((time.perf_counter() - one) * 1000)
        print(json.dumps({"waited_ms": waited_ms, "elapsed_s": time.perf_counter() - begun}), flush=True)
