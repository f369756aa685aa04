"""Long model calls, moved out of the request: POST /ask answers at once, a workflow does the work.

The key OPENAI_API_KEY is a secret (.dev.vars); the endpoint is OPENAI_BASE_URL.
"""

import json
from pathlib import Path
from urllib.parse import urlparse

from model import stream_chat
from session import Session
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

__all__ = ["AskModel", "Default", "Session"]

PROMPT_CHARS_MAX = 8000


class AskModel(WorkflowEntrypoint):
    """Check the prompt, ask the model, keep the answer, tell the session. A refused prompt ends early."""

    async def run(self, event, step):
        ask = event["payload"]
        session = self.env.SESSIONS.getByName(ask["session"])

        async def check():
            refused = [word for word in self.env.REFUSED_WORDS.split(",") if word in ask["prompt"].lower()]
            return f"the prompt mentions {refused[0]!r}" if refused else None

        async def call_model():
            await session.progress(ask["id"], "")
            text = ""
            async for piece in stream_chat(self.env, ask["prompt"]):
                text += piece
                await session.progress(ask["id"], text)
            return text

        async def keep(text):
            await self.env.ANSWERS.put(ask["id"], json.dumps({"prompt": ask["prompt"], "answer": text}))

        refusal = await step.do("check prompt", check)
        # A step with when= is ours: skipped, and shown as skipped, unless the condition holds.
        await step.do("tell of refusal", lambda: session.refused(ask["id"], refusal), when=refusal is not None)
        if refusal is not None:
            return {"refused": refusal}
        retries = {"limit": 5, "delay": "2 seconds", "backoff": "exponential"}
        answer = await step.do("ask model", {"retries": retries, "timeout": "5 minutes"}, call_model)
        await step.do("keep answer", lambda: keep(answer))
        await step.do("tell session", lambda: session.answered(ask["id"], answer))
        return {"answer": answer}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = urlparse(request.url).path.strip("/").split("/")
        if request.method == "POST" and parts == ["ask"]:
            return await self.ask(request)
        if request.method == "GET" and parts == [""]:
            page = (Path(__file__).parent / "page.html").read_text()
            return Response(page, headers={"content-type": "text/html;charset=utf-8"})
        if request.method == "GET" and len(parts) == 2 and parts[0] == "answers":
            return await self.answer(parts[1])
        if request.method == "GET" and len(parts) == 3 and parts[0] == "sessions" and parts[2] == "events":
            return await self.env.SESSIONS.getByName(parts[1]).fetch(request)
        return Response("Not Found\n", status=404)

    async def ask(self, request):
        try:
            body = await request.json()
            session, prompt = body["session"], body["prompt"]
        except (ValueError, KeyError, TypeError):
            return Response.json({"error": 'send {"session": ..., "prompt": ...} as JSON'}, status=400)
        if not isinstance(session, str) or not isinstance(prompt, str) or not session or not prompt.strip():
            return Response.json({"error": "session and prompt are non-empty strings"}, status=400)
        if len(prompt) > PROMPT_CHARS_MAX:
            return Response.json({"error": f"a prompt has at most {PROMPT_CHARS_MAX} characters"}, status=413)
        ask_id = self.env.SESSIONS.newUniqueId().toString()[:32]
        params = {"id": ask_id, "session": session, "prompt": prompt}
        await self.env.ASK_MODEL.create(id=ask_id, params=params)
        return Response.json({"id": ask_id}, status=202)

    async def answer(self, ask_id):
        kept = await self.env.ANSWERS.get(ask_id, "json")
        if kept is not None:
            return Response.json({"status": "complete", **kept})
        try:
            instance = await self.env.ASK_MODEL.get(ask_id)
        except Exception:
            return Response.json({"error": f"no answer {ask_id}"}, status=404)
        status = await instance.status()
        return Response.json({"status": status["status"], "output": status["output"], "error": status["error"]})
