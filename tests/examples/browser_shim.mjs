// Runs the script of examples/browser.html as a page would: `node browser_shim.mjs SCRIPT.mjs` with
// SERVER, KEY and WORKFLOW in the environment. No browser: elements are objects with what the script uses.
// Prints a line of JSON when the page has come to rest: what it shows.

const elements = new Map();

class Element {
  value = "";
  textContent = "";
  children = [];
  listeners = {};
  append(child) {
    this.children.push(child);
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
}

globalThis.document = {
  getElementById: (id) => {
    if (!elements.has(id)) elements.set(id, new Element());
    return elements.get(id);
  },
  createElement: () => new Element(),
};
const blobs = [];
URL.createObjectURL = (blob) => `blob:${blobs.push(blob) - 1}`;
if (process.env.WITHOUT_SOCKETS) delete globalThis.WebSocket;

const show = globalThis.document.getElementById;
await import(process.argv[2]);
show("server").value = process.env.SERVER;
show("key").value = process.env.KEY ?? "";
show("workflow").value = process.env.WORKFLOW;
let prevented = false;
show("form").listeners.submit({ preventDefault: () => (prevented = true) });

process.on("beforeExit", async () => {
  const pictures = show("pictures").children.map(({ src, alt }) => ({ src, alt }));
  const sizes = blobs.splice(0).map((blob) => blob.size);
  if (sizes.length || !process.exitCode) {
    process.exitCode = 3; // so that this runs once
    const state = show("state").textContent;
    console.log(JSON.stringify({ state, progress: show("progress").value, pictures, sizes, prevented }));
    process.exit(0);
  }
});
