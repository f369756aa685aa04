"""Remind the author of a pull request every day until it is closed.

POST /webhook takes the forge's notices ({"action": "opened" | "closed", "repo": ..., "number": ..., "author": ...}).
An opened pull request starts a workflow; each day the workflow asks the forge whether it is still open and, if so,
posts a reminder to the chat. A notice of closing ends it at once. GET /reminders/REPO/NUMBER shows the state.
"""

import json
from urllib.parse import urlparse

from workers import Response, WorkerEntrypoint, WorkflowEntrypoint, fetch


class RemindUntilClosed(WorkflowEntrypoint):
    async def run(self, event, step):
        pull = event["payload"]

        async def still_open():
            response = await fetch(f"{self.env.FORGE_URL}/repos/{pull['repo']}/pulls/{pull['number']}")
            response.raise_for_status()
            return (await response.json())["state"] == "open"

        async def remind():
            text = f"@{pull['author']}: {pull['repo']}#{pull['number']} is waiting for you"
            response = await fetch(f"{self.env.CHAT_URL}/messages", method="POST", body=json.dumps({"text": text}))
            response.raise_for_status()
            return text

        for reminded in range(self.env.REMINDERS_MAX):
            try:
                await step.wait_for_event("closed", "pull-closed", timeout=self.env.REMIND_EVERY)
                return {"closed": True, "reminders": reminded}
            except Exception as error:
                if getattr(error, "name", None) != "WorkflowTimeoutError":
                    raise
            is_open = await step.do("ask forge", still_open)
            await step.do("remind", remind, when=is_open)
            if not is_open:
                return {"closed": True, "reminders": reminded}
        return {"closed": False, "reminders": self.env.REMINDERS_MAX}


def instance_id(repo, number):
    return f"{repo.replace('/', '-').replace('.', '-')}-{number}"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = urlparse(request.url).path.strip("/").split("/")
        if request.method == "POST" and parts == ["webhook"]:
            return await self.webhook(request)
        if request.method == "GET" and len(parts) >= 3 and parts[0] == "reminders":
            return await self.show(instance_id("/".join(parts[1:-1]), parts[-1]))
        return Response("Not Found\n", status=404)

    async def webhook(self, request):
        try:
            notice = await request.json()
            pull = {"repo": str(notice["repo"]), "number": int(notice["number"]), "author": str(notice["author"])}
            action = notice["action"]
        except (ValueError, KeyError, TypeError):
            return Response.json({"error": "send action, repo, number and author as JSON"}, status=400)
        identity = instance_id(pull["repo"], pull["number"])
        if action == "opened":
            try:
                await self.env.REMINDERS.create(id=identity, params=pull)
            except Exception as error:
                if "already_exists" not in str(error):
                    raise
                return Response.json({"id": identity, "started": False})
            return Response.json({"id": identity, "started": True}, status=202)
        if action == "closed":
            instance = await self.env.REMINDERS.get(identity)
            await instance.send_event({"type": "pull-closed", "payload": pull})
            return Response.json({"id": identity})
        return Response.json({"ignored": action})

    async def show(self, identity):
        try:
            instance = await self.env.REMINDERS.get(identity)
        except Exception:
            return Response.json({"error": f"no reminders for {identity}"}, status=404)
        return Response.json(await instance.status())
