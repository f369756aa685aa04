"""What `make run` starts, stopped by Ctrl-C and started again."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

from edge_process import APPS, PATIENCE_S, descendants, eventually, plain_client


@contextmanager
def running(data):
    """The app's own runner, as a terminal starts it; gives its URL and a function that presses Ctrl-C."""
    command = [sys.executable, APPS / "llm_offload/run.py", "--port", "0", "--data", data]
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"Ready on (\S+)", line):
                break
        else:
            raise AssertionError("".join(lines))

        def interrupt():
            family = descendants(process.pid)
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
            eventually(lambda: not [pid for pid in family if os.path.exists(f"/proc/{pid}")])
            return process.returncode

        yield found[1], interrupt
        process.kill()


def test_interrupted_in_the_middle_of_an_answer_it_completes_after_the_next_start(tmp_path):
    with running(tmp_path) as (url, interrupt), plain_client(url) as client:
        ask = client.post("/ask", json={"session": "s", "prompt": "Will you be back?"}).json()
        # A machine that is busy with something else may have completed it before it was seen to run.
        eventually(lambda: client.get(f"/answers/{ask['id']}").json()["status"] in ("running", "complete"))
        assert interrupt() == 0
    with running(tmp_path) as (url, interrupt), plain_client(url) as client:
        found = eventually(
            lambda: (answer := client.get(f"/answers/{ask['id']}").json())["status"] == "complete" and answer
        )
        assert "Will you be back?" in found["answer"]
        assert interrupt() == 0
