// What the tests have @comfyorg/sdk do, unchanged, with the sidecar (comfy_sdks.py).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { Comfy } from "@comfyorg/sdk";

const client = new Comfy({ apiKey: process.env.COMFY_API_KEY });
const asset = client.assets.fromBytes(readFileSync("red.png"), { filename: "red.png" });
const graph = {
  1: { class_type: "LoadImage", inputs: { image: asset } },
  2: { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "ts" } },
};

const job = await client.submit(client.workflows.fromJson(graph));
const kinds = new Set();
let last;
for await (const event of job.events()) {
  kinds.add(event.kind);
  if (event.kind === "statusChange") last = event.status;
}
assert.equal(last, "succeeded");
assert.ok(kinds.has("outputReady"));

await job.result();
const [output] = job.getOutputs("2");
const bytes = await output.toBytes();
assert.equal(Buffer.from(bytes).subarray(1, 4).toString(), "PNG");
const link = await output.getDownloadUrl();
assert.equal((await (await fetch(link.url)).arrayBuffer()).byteLength, bytes.length);

const again = client.assets.fromBytes(readFileSync("red.png"), { filename: "other.png" });
assert.equal(await again.commit(), asset.id);
assert.equal((await client.jobs.get(job.id)).status, "succeeded");
assert.equal((await job.getWorkflow()).format, "api");

const slow = client.workflows.fromJson(JSON.parse(readFileSync("slow.json", "utf8")));
const cancelled = await client.submit(slow);
await cancelled.cancel();
await cancelled.wait();
assert.equal(cancelled.status, "canceled");
await assert.rejects(client.jobs.get("nothing"), { name: "NotFound" });
console.log("all is well");
