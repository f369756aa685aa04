import { DurableObject, WorkflowEntrypoint } from "cloudflare:workers";

const STEPS = 10;
let ended = 0;

export class Counter extends DurableObject {
  async increment() {
    const value = ((await this.ctx.storage.get("value")) ?? 0) + 1;
    await this.ctx.storage.put("value", value);
    return value;
  }
}

export class Steps extends WorkflowEntrypoint {
  async run(event, step) {
    for (let number = 0; number < STEPS; number++) {
      await step.do(`step ${number}`, async () => null);
    }
    ended++;
  }
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/increment") {
      await env.COUNTERS.getByName("counter").increment();
    } else if (url.pathname === "/steps") {
      const count = Number(url.searchParams.get("n"));
      const goal = ended + count;
      await Promise.all(Array.from({ length: count }, () => env.STEPS.create()));
      while (ended < goal) {
        await scheduler.wait(5);
      }
    }
    return new Response("Hello, world!");
  },
};
