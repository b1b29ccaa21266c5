// Pictures on the cards of jobs: the live preview of one that runs, the first picture of one that has ended.

import { setThumb } from "./elements.js";
import { previews } from "./outputs.js";

const LIVE_MS = 1_000; // between two previews of a job
const NONE_MS = 10_000; // before one that had none is asked for again
const MAX_LIVE = 4; // jobs whose previews are asked for

/** One for each visit. `show` after each drawing, `forget` for a card that has gone. */
export class Thumbs {
  #shown = new Map(); // by card: what it shows, and how that is given up
  #watcher;

  constructor(api) {
    this.api = api;
    this.pictures = previews(api);
    this.#watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const made = this.#shown.get(entry.target);
        if (made) made.seen = entry.isIntersecting;
        if (made?.seen) this.#fill(entry.target, made);
      }
    });
    const clock = setInterval(() => this.#refresh(), LIVE_MS);
    api.signal.addEventListener("abort", () => (clearInterval(clock), this.#watcher.disconnect()), { once: true });
  }

  show(card, job) {
    let made = this.#shown.get(card);
    if (!made) {
      this.#shown.set(card, (made = { job, source: null, drop: null, dueAt: 0, seen: false }));
      this.#watcher.observe(card);
    }
    made.job = job;
    if (made.seen) this.#fill(card, made);
  }

  forget(card) {
    const made = this.#shown.get(card);
    if (!made) return;
    this.#watcher.unobserve(card);
    this.#shown.delete(card);
    made.drop?.();
  }

  #refresh() {
    if (document.hidden) return;
    for (const [card, made] of this.#live().slice(0, MAX_LIVE)) this.#fill(card, made);
  }

  #live() {
    return [...this.#shown].filter(([, made]) => made.seen && made.job.status === "running");
  }

  /** Less than a step of the clock, unless requests are few. */
  #pauseMs() {
    return Math.max(LIVE_MS / 2, Math.min(this.#live().length, MAX_LIVE) * this.api.spareMs);
  }

  /** Asks for what the card should show, unless it is there or on its way. */
  async #fill(card, made) {
    const running = made.job.status === "running";
    const output = running ? null : (made.job.outputs ?? []).find(isPicture);
    const source = output?.outputId ?? (running ? "live" : null);
    if (!running && source === made.source) return;
    if (made.asking || (running && (performance.now() < made.dueAt || !this.api.hasSpare))) return;
    made.asking = true;
    let address = null;
    let drop = () => URL.revokeObjectURL(address);
    try {
      if (running) address = await this.#frame(made.job);
      else if (output) {
        address = await this.pictures.preview(output);
        drop = () => this.pictures.drop(address);
      }
    } catch {
      address = null; // gone, or not to be had: the card has its words
    }
    made.asking = false;
    made.dueAt = running ? performance.now() + (address ? this.#pauseMs() : NONE_MS) : 0;
    made.source = source;
    if (!this.#shown.has(card)) {
      if (address) drop();
      return;
    }
    if (!running || address) { // else the last one stays
      setThumb(card, address, running ? "Preview of the running workflow" : "");
      made.drop?.();
      made.drop = address && drop;
    }
    if (made.job.status !== "running" && running) this.#fill(card, made); // it has ended meanwhile
  }

  async #frame(job) {
    const path = `v1/comfyui/workflow/${encodeURIComponent(job.previewOf ?? job.workflowId)}/preview`;
    return URL.createObjectURL(await this.api.blob(path, { patient: true }));
  }
}

const isPicture = (output) => output.type === "image" && output.mediaType !== "image/svg+xml";
