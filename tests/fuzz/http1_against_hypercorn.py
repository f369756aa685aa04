"""Coverage-guided fuzzing of the HTTP/1.1 loop beside hypercorn. Needs atheris:

    python -m pip install --group fuzz
    python tests/fuzz/http1_against_hypercorn.py -max_total_time=600

Whatever a client sends, in whatever pieces: the loop raises nothing, the worker sees the same requests, the client gets
the same well-framed answers, and hypercorn would have given the worker every one of those requests, too. The corpus of
the differential test is the seed; options are libFuzzer's.
"""

import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "isolate"), str(HERE.parent), str(HERE.parent.parent)]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["edge_runtime.isolate"]):
    import trio
    from http_corpus import CASES
    from test_http_differential import lowered, seen

SERVED_BY_US_ALONE = re.compile(rb"[\x80-\xff]|\?|\r\n\r\n\r\n|^\r\n|HTTP/1\.0|0{9}|Connection|PRI", re.IGNORECASE)
"""May be in what the loop rightly serves and hypercorn does not: the reasons are in `http_corpus.RIGHT`."""
HYPERCORNS = re.compile(rb"^(\r\n)*(\x16|PRI \*)|Upgrade", re.IGNORECASE)
"""What hypercorn serves: it may close without an answer that it gives when the bytes come in other pieces."""
REFERENCE_EVERY = 16


async def check(data: bytes, at: int) -> None:
    whole = await seen("llhttp", [data])
    split = await seen("llhttp", [data[:at], data[at:]])
    assert split[0] == whole[0]
    if not HYPERCORNS.search(data):
        assert split == whole
    if at % REFERENCE_EVERY == 0 and whole[1] != "HTTP/2" and not SERVED_BY_US_ALONE.search(data):
        reference, _ = await seen("hypercorn", [data])
        given = [(method, url, lowered(headers), body) for method, url, headers, body in whole[0]]
        assert (
            given == [(method, url, lowered(headers), body) for method, url, headers, body in reference][: len(given)]
        )


def test_one_input(data: bytes) -> None:
    if len(data) > 2:
        trio.run(check, data[1:], 1 + data[0] % (len(data) - 2))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(CASES.values()):
            if len(data) < 4096:
                Path(folder, str(number)).write_bytes(b"\x20" + data)
        atheris.Setup([*sys.argv, "-max_len=4096", folder], test_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
