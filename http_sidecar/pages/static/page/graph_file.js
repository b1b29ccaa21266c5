// A workflow out of a file: JSON as ComfyUI saves or exports it, or what it writes into its PNGs.

const MAX_BYTES = 128 * 2 ** 20;
const AS_JSON = "In ComfyUI: Workflow > Save or Export (API), and drop that file.";
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** What is wrong with a file, said to a person. */
export class FileProblem extends Error {
  constructor(message, nextStep) {
    super(message);
    Object.assign(this, { code: "file", nextStep, problems: [] });
  }
}

/** The workflow in a File. Whether it is a good one is the service's to say. Throws FileProblem. */
export async function graphOf(file) {
  if (file.size > MAX_BYTES)
    throw new FileProblem("The file is too large for a workflow.", "Choose another.");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isPng = PNG.every((byte, place) => bytes[place] === byte);
  const text = isPng ? await workflowOf(bytes) : new TextDecoder().decode(bytes);
  if (text === null) {
    throw new FileProblem(
      "The picture contains no workflow.",
      "Only PNGs as ComfyUI saves them have one; other programs and sites remove it.",
    );
  }
  const found = parse(text);
  if (found === undefined) {
    throw new FileProblem("The file is not JSON.", AS_JSON);
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) {
    throw new FileProblem("The JSON is no workflow.", AS_JSON);
  }
  return found;
}

/** JSON as Python writes it: it may have NaN and Infinity, which no JSON has. undefined: it is none. */
function parse(text) {
  for (const each of [
    text,
    text.replace(/"(?:[^"\\]|\\.)*"|NaN|-?Infinity/g, (found) => (found[0] === '"' ? found : "null")),
  ]) {
    try {
      return JSON.parse(each);
    } catch {
      continue;
    }
  }
  return undefined;
}

/**
 * What ComfyUI writes into a PNG: the text chunk `prompt`, which is the graph that ran, else `workflow`, which is the
 * editor's; null without either (PNG specification, 11.3.3: tEXt, zTXt, iTXt).
 */
async function workflowOf(bytes) {
  const found = new Map();
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length;) {
    const size = view.getUint32(at);
    const type = latin1(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + size);
    if (["tEXt", "zTXt", "iTXt"].includes(type)) {
      const end = data.indexOf(0);
      if (end > 0) found.set(latin1(data.subarray(0, end)), [type, data.subarray(end + 1)]);
    }
    at += 12 + size;
  }
  const chunk = found.get("prompt") ?? found.get("workflow");
  return chunk ? textOf(...chunk) : null;
}

/** `rest`: a text chunk behind its keyword and the zero. */
async function textOf(type, rest) {
  if (type === "tEXt") return latin1(rest);
  if (type === "zTXt") return latin1(await inflated(rest.subarray(1)));
  const language = rest.indexOf(0, 2);
  const translated = rest.indexOf(0, language + 1);
  const text = rest.subarray(translated + 1);
  return new TextDecoder().decode(rest[0] === 1 ? await inflated(text) : text);
}

async function inflated(bytes) {
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new FileProblem("The picture's workflow is damaged.", AS_JSON);
  }
}

function latin1(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4_096)
    text += String.fromCharCode(...bytes.subarray(at, at + 4_096));
  return text;
}
