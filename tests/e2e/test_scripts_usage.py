"""A worker that reads its own usage and its own bill."""

from edge_process import eventually
from script_workers import FLAVOURS, client_of, served, write_worker

SCRIPT = """
from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match urlsplit(request.url).path:
            case "/usage":
                return Response.json(await self.env.USAGE.usage(since=0, groupBy=["worker", "handler"]))
            case "/bill":
                return Response.json(await self.env.USAGE.bill({"tariff": "cloudflow"}))
        return Response("ok")
"""


def written(rows):
    """The rows of requests, once all three requests are in them; the ledger is written about once a second."""
    fetched = [row for row in rows if row["handler"] == "Default.fetch"]
    return fetched if sum(row["events"] for row in fetched) >= 3 else None


def test_worker_reads_what_it_used_and_what_that_costs(tmp_path):
    for flavour in FLAVOURS:
        flags = ["python_workers"] if flavour == "asyncio" else []
        write_worker(
            tmp_path / "workers" / f"meter-{flavour}", SCRIPT, compatibility_flags=flags, usage={"binding": "USAGE"}
        )
    with served(tmp_path / "workers", tmp_path / "data") as edge:
        for flavour in FLAVOURS:
            with client_of(edge, f"meter-{flavour}") as client:
                for _ in range(3):
                    assert client.get("/").text == "ok"
                (row,) = eventually(lambda client=client: written(client.get("/usage").json()))
                assert row["worker"] == f"meter-{flavour}"
                assert row["cpu_us"] > 0
                bill = client.get("/bill").json()
                assert (bill["tariff"], bill["currency"], bill["cost"]) == ("cloudflow", "USD", "0")
