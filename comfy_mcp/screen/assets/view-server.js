// The server behind the host: its tools and resources, as far as the host passes calls on, within bounds.

import { HostError } from "./view-host.js";

const MOST = {
  previews: 100, // pictures held at once
  characters: 32 * 2 ** 20, // of all of them, as data: addresses
  file: 4 * 2 ** 20, // bytes of a picture that is read whole
  media: 16 * 2 ** 20, // bytes of a video or a sound
  atOnce: 2,
};
const SMALL_FILE = 2 ** 18; // bytes: up to here the file itself is as good as a preview
const NO_RESOURCE = new Set([-32002, -32602]); // the server's words, by way of the host: this one is not there
const TILE_PX = 384;
const LARGE_PX = 1280;

/** A tool ran and answered with an error of the server's: a sentence with a code and the next step. */
export class ToolError extends Error {
  constructor(result) {
    super(textOf(result) || "The tool failed.");
    const known = result._meta?.["comfy-bridge/error"];
    this.code = known?.code ?? null;
    this.retryable = known?.retryable === true;
  }
}

/** The first text of a tool's result. */
export function textOf(result) {
  const block = (result?.content ?? []).find((each) => each.type === "text");
  return block ? String(block.text) : "";
}

export function serverThrough(host, capabilities) {
  const can = { tools: Boolean(capabilities?.serverTools), resources: Boolean(capabilities?.serverResources) };
  return {
    can,
    /** A tool's result. Rejects with a HostError or a ToolError. */
    async call(name, args) {
      if (!can.tools) throw new HostError("This host does not let a view call tools.");
      const result = await host.request("tools/call", { name, arguments: args });
      if (result.isError) throw new ToolError(result);
      return result;
    },
    /** A resource's first contents: `mimeType` and `text` or `blob`. Rejects with a HostError. */
    async read(uri) {
      if (!can.resources) throw new HostError("This host does not let a view read resources.");
      const [contents] = (await host.request("resources/read", { uri })).contents ?? [];
      if (!contents) throw new HostError("The resource is empty.");
      return contents;
    },
  };
}

/**
 * Pictures and media as data: addresses, the only ones that hosts show by default. `small` and `large` resolve
 * to null where there is none or a bound is reached, and reject when the host refuses; after a refusal of a
 * small one nothing more is asked for tiles.
 */
export function previewsOf(server) {
  const held = new Map();
  const queue = [];
  let [running, characters, refused] = [0, 0, false];

  const next = () => {
    if (running >= MOST.atOnce || queue.length === 0) return;
    running += 1;
    queue.shift()().finally(() => {
      running -= 1;
      next();
    });
  };
  const inTurn = (work) =>
    new Promise((resolve, reject) => {
      queue.push(() => work().then(resolve, reject));
      next();
    });

  const smallNow = async (output) => {
    if (refused || held.size >= MOST.previews || characters >= MOST.characters) return null;
    try {
      const address = await picture(server, output, TILE_PX);
      if (address) {
        held.set(address, (held.get(address) ?? 0) + 1);
        characters += address.length;
      }
      return address;
    } catch (error) {
      if (!(error instanceof HostError) || error.timedOut || NO_RESOURCE.has(error.code)) return null;
      refused = true;
      throw error;
    }
  };

  return {
    small: (output) => inTurn(() => smallNow(output)),
    large: (output) => picture(server, output, LARGE_PX),
    /** A video or a sound, if it is not too large. */
    async media(output) {
      if (!(output.size >= 0) || output.size > MOST.media) return null;
      return addressOf(await server.read(output.uri), output.type);
    },
    /** Its tile has gone. */
    drop(address) {
      const count = held.get(address);
      if (!count) return;
      characters -= address.length;
      if (count === 1) held.delete(address);
      else held.set(address, count - 1);
    },
  };
}

/** By the way that costs less, and by the other where that one is closed. */
async function picture(server, output, px) {
  // Just after the end a size may not be known yet; the server refuses what is too large to be read.
  const readable = server.can.resources && (!(output.size >= 0) || output.size <= MOST.file);
  const ways = [
    ...(readable ? [async () => addressOf(await server.read(output.uri), "image")] : []),
    ...(server.can.tools ? [() => viewed(server, output, px)] : []),
  ];
  if (!(output.size >= 0) || output.size > SMALL_FILE) ways.reverse();
  let problem = null;
  for (const way of ways) {
    try {
      return await way();
    } catch (error) {
      if (!(problem instanceof ToolError)) problem = error; // what the server says tells more
    }
  }
  if (problem) throw problem;
  return null;
}

async function viewed(server, output, px) {
  const result = await server.call("view_output", { output_id: output.outputId, max_px: px });
  const image = (result.content ?? []).find((each) => each.type === "image");
  return image ? addressOf({ mimeType: image.mimeType, blob: image.data }, "image") : null;
}

function addressOf({ mimeType, blob }, family) {
  if (typeof blob !== "string" || !new RegExp(`^${family}/[\\w.+-]+$`).test(mimeType ?? "")) return null;
  return `data:${mimeType};base64,${blob}`;
}
