"""What is in stock of one item, and for which orders some of it is set aside."""

from workers import DurableObject


class Stock(DurableObject):
    async def supply(self, count):
        free = await self.ctx.storage.get("free") or 0
        await self.ctx.storage.put("free", free + count)
        return free + count

    async def reserve(self, order, count):
        """Set aside for an order; asked again for the same order, nothing changes."""
        if await self.ctx.storage.get(f"order/{order}") is not None:
            return True
        free = await self.ctx.storage.get("free") or 0
        if free < count:
            return False
        await self.ctx.storage.put(f"order/{order}", count)
        await self.ctx.storage.put("free", free - count)
        return True

    async def release(self, order):
        count = await self.ctx.storage.get(f"order/{order}")
        if count is None:
            return
        await self.ctx.storage.delete(f"order/{order}")
        await self.ctx.storage.put("free", (await self.ctx.storage.get("free") or 0) + count)

    async def free(self):
        return await self.ctx.storage.get("free") or 0
