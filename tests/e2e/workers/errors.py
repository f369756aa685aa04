"""Things that go wrong in a handler, and secrets that must not get out."""

import asyncio
import logging
from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint, env


def deep(value):
    return value.missing_attribute


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match urlsplit(request.url).path.strip("/"):
            case "raise":
                token = self.env.TOKEN
                raise ValueError(f"told by the script, {len(token)} letters")
            case "surrogate":
                raise ValueError("half of \ud83d")
            case "huge":
                raise ValueError("many words " * 2_000_000 + "many words, the last of them")
            case "deep":
                deep(self)
            case "secret_key":
                return {}[self.env.TOKEN]
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.fail())
            case "env":
                return Response(self.env.UNKNOWN)
            case "nothing":
                return None
            case "text":
                return "just text"
            case "print":
                print("printed", [self.env.TOKEN], env, vars(self).keys())
                logging.warning("logged %r", [self.env.TOKEN])
        return Response(f"{self.env.TOKEN == 'kept-to-itself'} {self.env.PLAIN} {env.OVERRIDDEN}")

    async def fail(self):
        raise KeyError("failed in a group")
