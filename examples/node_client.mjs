// A client for Node 20 and newer, with its built-ins alone: submit a workflow, follow it, save what it made.
//
//   comfy-bridge serve                                   # in another shell
//   node examples/node_client.mjs examples/01_picture.json pictures
//
// BRIDGE_URL says where the sidecar is; BRIDGE_KEY is sent where it asks for a key.

import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const url = (process.env.BRIDGE_URL ?? "http://127.0.0.1:9090").replace(/\/$/, "");
const v1 = `${url}/v1/comfyui`;
const key = process.env.BRIDGE_KEY;
const FINAL = ["workflow:completed", "workflow:error", "workflow:cancelled"];

const [file, folder] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node node_client.mjs WORKFLOW.json FOLDER");
  process.exit(2);
}
try {
  process.exitCode = await main(JSON.parse(await readFile(file, "utf8")), folder);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

async function main(workflow, folder) {
  const submitted = await ask("POST", `${v1}/workflow`, {
    headers: { "Content-Type": "application/json", "Idempotency-Key": randomUUID() },
    body: JSON.stringify({ workflow, priority: "normal" }),
  });
  const { workflowId, queuePosition } = await submitted.json();
  console.error(`submitted as ${workflowId}, position ${queuePosition}`);

  let last;
  for await (last of follow(workflowId)) {
    if (last.type === "workflow:progress") {
      console.error(`${Math.round(last.progress)} % ${last.currentNode ?? ""}`);
    }
  }
  if (last.type !== "workflow:completed") {
    console.error(`${last.type}: ${last.error ?? ""}`);
    return 1;
  }
  await mkdir(folder, { recursive: true });
  for (const output of last.outputs) {
    const path = join(folder, basename(output.filename || `${output.url.split("/").pop()}.txt`));
    const content = await ask("GET", `${url}${output.url}`);
    await pipeline(Readable.fromWeb(content.body), createWriteStream(path));
    console.log(path);
  }
  return 0;
}

async function ask(method, address, { headers = {}, ...options } = {}) {
  const withKey = key ? { "X-API-Key": key, ...headers } : headers;
  const answer = await fetch(address, { method, headers: withKey, ...options });
  if (!answer.ok) {
    const problem = await answer.json();
    throw new Error(`${problem.statusCode} ${problem.code}: ${problem.detail}`);
  }
  return answer;
}

// Every message until the workflow has ended. A connection that breaks is resumed where it was.
async function* follow(workflowId, tries = 5) {
  let lastId = "0";
  while (tries-- > 0) {
    const events = await ask("GET", `${v1}/workflow/${workflowId}/events`, {
      headers: { "Last-Event-ID": lastId },
    });
    try {
      for await (const { id, message } of serverSent(events.body)) {
        lastId = id ?? lastId;
        yield message;
        if (FINAL.includes(message.type)) return;
      }
    } catch (error) {
      console.error(`the connection broke (${error.message}); again`);
    }
  }
  throw new Error("the stream broke too often");
}

// Server-Sent Events: `id:` and `data:` lines, and an empty one after each.
async function* serverSent(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.data) yield { id: fields.id, message: JSON.parse(fields.data) };
    }
  }
}
