"""The old style: functions of the module instead of classes."""

from workers import Response, handler


@handler
async def on_fetch(request, env, ctx):
    await env.KV.put("asked", request.url)
    return Response(f"global {env.FLAVOUR} {await request.text()}")


async def on_scheduled(controller, env, ctx):
    await env.KV.put("fired", controller.cron)
