"""An OpenAI-compatible chat endpoint, streamed."""

import json

from workers import fetch


async def stream_chat(env, prompt):
    """Yield the answer's text in pieces as the model produces them; raises on any answer but 200."""
    response = await fetch(
        f"{env.OPENAI_BASE_URL}/chat/completions",
        method="POST",
        headers={
            "authorization": f"Bearer {getattr(env, 'OPENAI_API_KEY', '')}",
            "content-type": "application/json",
        },
        body=json.dumps({"model": env.OPENAI_MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}),
    )
    if response.status != 200:
        raise RuntimeError(f"the model answered {response.status}: {(await response.text())[:200]}")
    pending = b""
    async for chunk in response.body:
        pending += bytes(chunk)
        *lines, pending = pending.split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or data == b"[DONE]":
                continue
            for choice in json.loads(data).get("choices", ()):
                text = choice.get("delta", {}).get("content")
                if text:
                    yield text
