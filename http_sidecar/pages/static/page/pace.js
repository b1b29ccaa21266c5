// When to ask again: soon after something happened, never more often than may be, and now and then anyway.

/**
 * Calls `work` (async) when asked, at least `minMs` apart, and every `everyMs` while the page is looked at.
 * One call at a time. Ends with `signal`.
 */
export class Pace {
  #timer = null;
  #busy = false;
  #again = false;
  #last = -Infinity;

  constructor(work, { minMs, everyMs, signal }) {
    Object.assign(this, { work, minMs, everyMs, signal });
    document.addEventListener("visibilitychange", () => this.#seen(), { signal });
    signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /** As soon as may be. */
  soon() {
    if (this.#busy) this.#again = true;
    else this.#in(Math.max(0, this.#last + this.minMs - performance.now()));
  }

  /** At once, and the caller waits for it. */
  async now() {
    clearTimeout(this.#timer);
    await this.#run();
  }

  #seen() {
    if (!document.hidden && performance.now() - this.#last > this.everyMs) this.soon();
  }

  #in(ms) {
    clearTimeout(this.#timer);
    if (!this.signal.aborted) this.#timer = setTimeout(() => this.#run(), ms);
  }

  async #run() {
    if (this.#busy) return;
    this.#busy = true;
    this.#again = false;
    try {
      if (!this.signal.aborted) await this.work();
    } finally {
      this.#busy = false;
      this.#last = performance.now();
      this.#in(this.#again ? this.minMs : document.hidden ? 10 * this.everyMs : this.everyMs);
    }
  }
}
