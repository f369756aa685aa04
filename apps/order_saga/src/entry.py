"""An order as a saga: reserve, have a person approve what is expensive, charge, ship; what fails is undone.

POST /stock/ITEM {"count"}; POST /orders {"id", "item", "count", "amount"}; POST /orders/ID/approval {"approved"};
GET /orders/ID. Outside services are told the order's id as idempotency key: a step may run again after a crash.
"""

import json
from urllib.parse import urlparse

from stock import Stock
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint, fetch
from workers.workflows import NonRetryableError

__all__ = ["Default", "PlaceOrder", "Stock"]

RETRIES = {"retries": {"limit": 6, "delay": "2 seconds", "backoff": "exponential"}, "timeout": "1 minute"}


class PlaceOrder(WorkflowEntrypoint):
    async def run(self, event, step):
        order = event["payload"]
        stock = self.env.STOCK.getByName(order["item"])
        expensive = order["amount"] >= self.env.APPROVAL_FROM

        async def reserve():
            if not await stock.reserve(order["id"], order["count"]):
                raise NonRetryableError(f"{order['item']} is out of stock")
            return order["count"]

        async def release():
            await stock.release(order["id"])

        async def charge():
            return (await self.call("charges", order, amount=order["amount"]))["receipt"]

        async def refund():
            await self.call("refunds", order, amount=order["amount"])

        async def ship():
            return (await self.call("shipments", order, item=order["item"]))["parcel"]

        async def tell(text):
            await self.call("notices", order, text=text)

        await step.do("reserve", RETRIES, reserve, rollback=release, rollback_config=RETRIES)
        await step.do("ask approval", RETRIES, lambda: tell("approve?"), when=expensive)
        if expensive:
            answer = await step.wait_for_event("approval", "approval", timeout=self.env.APPROVAL_WITHIN)
            if not answer["payload"]["approved"]:
                raise NonRetryableError("the order was not approved")
        receipt = await step.do("charge", RETRIES, charge, rollback=refund, rollback_config=RETRIES)
        parcel = await step.do("ship", RETRIES, ship)
        return {"receipt": receipt, "parcel": parcel}

    async def call(self, path, order, **fields):
        response = await fetch(
            f"{self.env.PAYMENTS_URL}/{path}",
            method="POST",
            headers={"content-type": "application/json", "idempotency-key": f"{path}-{order['id']}"},
            body=json.dumps({"order": order["id"], **fields}),
        )
        if response.status == 422:
            raise NonRetryableError(f"{path}: {await response.text()}")
        response.raise_for_status()
        return await response.json()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = urlparse(request.url).path.strip("/").split("/")
        try:
            if request.method == "POST" and parts[0] == "stock" and len(parts) == 2:
                count = (await request.json())["count"]
                return Response.json({"free": await self.env.STOCK.getByName(parts[1]).supply(int(count))})
            if request.method == "POST" and parts == ["orders"]:
                order = read_order(await request.json())
                await self.env.ORDERS.create(id=order["id"], params=order)
                return Response.json({"id": order["id"]}, status=202)
            if request.method == "POST" and parts[0] == "orders" and parts[2:] == ["approval"]:
                answer = {"approved": bool((await request.json())["approved"])}
                instance = await self.env.ORDERS.get(parts[1])
                await instance.send_event({"type": "approval", "payload": answer})
                return Response.json(answer, status=202)
            if request.method == "GET" and parts[0] == "orders" and len(parts) == 2:
                return Response.json(await (await self.env.ORDERS.get(parts[1])).status())
        except (ValueError, KeyError, TypeError):
            return Response.json({"error": "a field is missing or of a wrong type"}, status=400)
        except Exception as error:
            if getattr(error, "name", "") != "WorkflowError":
                raise
            return Response.json({"error": str(error)}, status=404 if "not_found" in str(error) else 409)
        return Response("Not Found\n", status=404)


def read_order(given):
    return {
        "id": str(given["id"]),
        "item": str(given["item"]),
        "count": int(given["count"]),
        "amount": int(given["amount"]),
    }
