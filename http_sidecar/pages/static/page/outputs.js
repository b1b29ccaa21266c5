// The gallery of recent outputs.

import { gallery, updateGallery } from "./elements.js";

const PAGE = 24;
const MAX_SHOWN = 240;
const PREVIEW_PX = 320;

/** By visit, and by output: its preview for all that show it, until the last one drops it. */
const shared = new WeakMap();

/** How previews come: with the key in a header, so as blobs. `patient`: they leave the rate limit to people. */
export function previews(api) {
  if (!shared.has(api)) shared.set(api, new Map());
  const known = shared.get(api);
  const fetched = async (id) => {
    const path = `v1/comfyui/output/${encodeURIComponent(id)}/preview?maxPx=${PREVIEW_PX}`;
    return URL.createObjectURL(await api.blob(path, { patient: true }));
  };
  return {
    preview: async ({ outputId: id }) => {
      if (!known.has(id)) known.set(id, { users: 0, coming: fetched(id), address: null });
      const made = known.get(id);
      made.users += 1;
      try {
        made.address = await made.coming;
      } catch (error) {
        known.delete(id);
        throw error;
      }
      return made.address;
    },
    drop: (address) => {
      const [id, made] = [...known].find(([, each]) => each.address === address) ?? [];
      if (!made || --made.users > 0) return;
      known.delete(id);
      URL.revokeObjectURL(address);
    },
  };
}

export class Outputs {
  #items = [];
  #cursor = null;
  #list = null;

  constructor(api, open) {
    this.api = api;
    this.place = document.getElementById("outputs");
    this.more = document.getElementById("outputs-more");
    this.#list = gallery([], { ...previews(api), open: (output) => open(output, this.#items) });
    this.place.replaceChildren();
    delete this.place.dataset.empty;
  }

  close() {
    updateGallery(this.#list, []);
    this.place.replaceChildren();
  }

  /** The newest again; older ones that were asked for stay. */
  async refresh() {
    const page = await this.api.get(`v1/comfyui/outputs?limit=${PAGE}`, { patient: true });
    const fresh = new Set(page.outputs.map((output) => output.outputId));
    const first = this.#items.length === 0;
    const older = page.nextCursor === null ? [] : this.#items.filter((output) => !fresh.has(output.outputId));
    this.#items = [...page.outputs, ...older].slice(0, MAX_SHOWN);
    if (first || this.#cursor === null) this.#cursor = page.nextCursor;
    this.#show();
  }

  async showOlder() {
    const page = await this.api.get(
      `v1/comfyui/outputs?limit=${PAGE}&cursor=${encodeURIComponent(this.#cursor)}`,
    );
    const known = new Set(this.#items.map((output) => output.outputId));
    this.#items.push(...page.outputs.filter((output) => !known.has(output.outputId)));
    this.#cursor = page.nextCursor;
    this.#show();
  }

  #show() {
    updateGallery(this.#list, this.#items);
    this.more.hidden = this.#cursor === null || this.#items.length >= MAX_SHOWN;
    if (this.#items.length) {
      if (!this.#list.isConnected) this.place.replaceChildren(this.#list);
      return;
    }
    const words = document.createElement("p");
    words.className = "empty";
    words.textContent = "No outputs yet. They appear here when workflows end.";
    this.place.replaceChildren(words);
  }
}
