from fastapi import FastAPI
from workers import WorkerEntrypoint, asgi

app = FastAPI()


@app.get("/")
async def root():
    return {"message": "hello"}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await asgi.fetch(app, request, self.env)
