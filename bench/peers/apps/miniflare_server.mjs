// node miniflare_server.mjs STATE PORT: serves miniflare_worker.mjs with its data below STATE; PEER_HOME has miniflare.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [state, port] = process.argv.slice(2);
const { Miniflare } = createRequire(join(process.env.PEER_HOME, "from.js"))("miniflare");
const script = readFileSync(new URL("./miniflare_worker.mjs", import.meta.url), "utf8");
const server = new Miniflare({
  host: "127.0.0.1",
  port: Number(port),
  modules: [{ type: "ESModule", path: "worker.mjs", contents: script }],
  compatibilityDate: "2026-05-01",
  durableObjects: { COUNTERS: { className: "Counter", useSQLite: true } },
  durableObjectsPersist: join(state, "objects"),
  workflows: { STEPS: { name: "steps", className: "Steps" } },
  workflowsPersist: join(state, "workflows"),
  cf: false,
  telemetry: { enabled: false },
});
await server.ready;
console.log(JSON.stringify({ ready: true }));
