"""Runs of ten steps that a file outside of the store is witness of, and payments that must take effect once.

POST /runs?first=N&count=N creates instances run-N, whose last step does not end until there is a file "let go" beside
the witness. POST /payments?first=N&count=N creates payment-N, each of three transactional steps. GET /ledger tells what
the payments have done.
"""

import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

STEPS = 10
PAYMENTS = 3
BATCH = 100
RETRY = {"retries": {"limit": 100, "delay": 20, "backoff": "constant"}}


def note(env, text):
    """Append a line to the witness, whole or not at all."""
    descriptor = os.open(env.WITNESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(text).encode() + b"\n")
    finally:
        os.close(descriptor)


class TenSteps(WorkflowEntrypoint):
    async def run(self, event, step):
        total = 0
        for number in range(STEPS):

            async def work(number=number):
                note(self.env, {"id": event["instanceId"], "step": f"step {number}-1"})
                await trio.sleep(event["payload"]["work_ms"] / 1000)
                while number == STEPS - 1 and not Path(self.env.WITNESS).with_name("let go").exists():
                    await trio.sleep(0.01)
                return number * 7

            total += await step.do(f"step {number}", RETRY, work)
        return [event["instanceId"], total]


class Account(DurableObject):
    async def deposit(self, amount):
        storage = self.ctx.storage
        balance = (await storage.get("balance") or 0) + amount
        await storage.put("balance", balance)
        await storage.put("deposits", (await storage.get("deposits") or 0) + 1)
        return balance

    async def report(self):
        return [await self.ctx.storage.get("balance") or 0, await self.ctx.storage.get("deposits") or 0]


class Payment(WorkflowEntrypoint):
    async def run(self, event, step):
        env, id = self.env, event["instanceId"]
        done = []
        for number in range(PAYMENTS):

            async def pay(number=number):
                note(env, {"id": id, "step": f"pay {number}-1"})
                count = int(await env.LEDGER.get(f"count/{id}") or 0) + 1
                await env.LEDGER.put(f"count/{id}", str(count))
                await env.ACCOUNTS.getByName(f"account-{number}").deposit(5)
                if number == 0:
                    await env.RECEIPTS.create(id=f"receipt-of-{id}", params={"events": PAYMENTS - 1})
                else:
                    receipt = await env.RECEIPTS.get(f"receipt-of-{id}")
                    await receipt.send_event({"type": "paid", "payload": [number, count]})
                await trio.sleep(event["payload"]["work_ms"] / 1000)
                return count

            done.append(await step.txn(f"pay {number}", RETRY, pay))
        return done


class Receipt(WorkflowEntrypoint):
    async def run(self, event, step):
        got = [(await step.wait_for_event(f"paid {n}", "paid"))["payload"] for n in range(event["payload"]["events"])]
        try:
            await step.wait_for_event("one too many", "paid", timeout=1)
        except Exception as error:
            return [got, error.name]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        asked = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
        if request.method == "POST":
            flow, prefix = (self.env.RUNS, "run") if url.path == "/runs" else (self.env.PAYMENTS, "payment")
            ids = [f"{prefix}-{number}" for number in range(asked["first"], asked["first"] + asked["count"])]
            params = {"work_ms": asked["work_ms"]}
            for start in range(0, len(ids), BATCH):
                await flow.create_batch([{"id": id, "params": params} for id in ids[start : start + BATCH]])
            return Response(None, status=201)
        counts = {}
        listed = await self.env.LEDGER.list(prefix="count/")
        for key in listed["keys"]:
            counts[key["name"].removeprefix("count/")] = int(await self.env.LEDGER.get(key["name"]))
        accounts = [await self.env.ACCOUNTS.getByName(f"account-{n}").report() for n in range(PAYMENTS)]
        return Response.json({"counts": counts, "accounts": accounts})
