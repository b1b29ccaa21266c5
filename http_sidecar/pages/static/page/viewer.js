// One output in full: picture, video, sound or text, and the file itself.

import { bytesText, el, kindWord, timeElement } from "./elements.js";
import { problemLines } from "./notices.js";

const MAX_BYTES = 256 * 2 ** 20; // the whole file has to be in the browser's memory
const USABLE = ["image", "video", "audio"]; // as the input of another workflow

/** `openJob(id)` shows the workflow that made it, `use(output)` the workflows that take it. */
export class Viewer {
  #address = null;
  #outputs = [];
  #shown = 0;

  constructor(api, { openJob, use }) {
    Object.assign(this, { api, openJob, use });
    this.dialog = document.getElementById("viewer");
    this.dialog.addEventListener("close", () => this.#clear(), { signal: api.signal });
    this.dialog.addEventListener("keydown", (event) => this.#key(event), { signal: api.signal });
  }

  open(output, outputs) {
    // By id: a list that was refreshed has other objects for the same outputs.
    const place = outputs.findIndex((each) => each.outputId === output.outputId);
    this.#outputs = place < 0 ? [output] : [...outputs];
    this.#show(Math.max(place, 0));
    if (!this.dialog.open) this.dialog.showModal();
  }

  #key(event) {
    if (event.target.closest("video, audio")) return;
    if (event.key === "ArrowLeft") this.#step(-1);
    if (event.key === "ArrowRight") this.#step(+1);
  }

  #step(by) {
    const next = this.#shown + by;
    if (next >= 0 && next < this.#outputs.length) this.#show(next);
  }

  async #show(place) {
    this.#clear();
    this.#shown = place;
    const output = this.#outputs[place];
    const name = output.filename || "text";
    const stage = el(
      "div",
      { class: "stage", "aria-busy": "true" },
      el("p", { class: "empty", text: "Loading" }),
    );
    const save = el("a", { class: "button", download: name, hidden: true, text: "Save" });
    const step = (text, by) => {
      const end = place + by < 0 || place + by >= this.#outputs.length;
      return el("button", {
        type: "button",
        disabled: end,
        text,
        onclick: () => this.#stepAndStay(by, text),
      });
    };
    this.dialog.replaceChildren(
      el(
        "div",
        { class: "dialog-head" },
        el("h2", { id: "viewer-title", text: name }),
        el("button", {
          type: "button",
          "aria-label": "Close",
          class: "quiet",
          text: "Close",
          onclick: () => this.dialog.close(),
        }),
      ),
      stage,
      el(
        "p",
        { class: "job-facts" },
        `${[kindWord(output), bytesText(output.size)].filter(Boolean).join(" · ")} · `,
        timeElement(output.createdAt),
      ),
      el(
        "div",
        { class: "row" },
        step("Newer", -1),
        step("Older", +1),
        save,
        el("button", {
          type: "button",
          text: "Workflow",
          onclick: () => (this.dialog.close(), this.openJob(output.workflowId)),
        }),
        USABLE.includes(output.type)
          ? el("button", {
              type: "button",
              text: "Use as input",
              onclick: () => (this.dialog.close(), this.use(output)),
            })
          : null,
      ),
    );
    try {
      stage.replaceChildren(await this.#content(output, name, save));
    } catch (error) {
      stage.replaceChildren(el("div", { class: "stage-problem" }, ...problemLines(error)));
    }
    stage.removeAttribute("aria-busy");
  }

  /** The buttons are made anew: focus goes to the one that was pressed, or to the other at an end. */
  #stepAndStay(by, text) {
    this.#step(by);
    const buttons = [...this.dialog.querySelectorAll(".row button:not(:disabled)")];
    (buttons.find((button) => button.textContent === text) ?? buttons[0])?.focus();
  }

  async #content(output, name, save) {
    if (output.type === "text" && output.content !== null)
      return el("pre", { tabindex: 0, text: output.content });
    if ((output.size ?? 0) > MAX_BYTES) {
      return el("p", {
        class: "empty",
        text: `Too large to show here (${bytesText(output.size)}). Fetch ${output.url} with your key.`,
      });
    }
    const blob = await this.api.blob(`v1/comfyui/output/${encodeURIComponent(output.outputId)}`);
    if (this.#outputs[this.#shown] !== output || !this.dialog.open) return "";
    // Only ever a source of these elements or a file to save: as a page of its own a stranger's file could run here.
    this.#address = URL.createObjectURL(blob);
    save.href = this.#address;
    save.hidden = false;
    const source = { src: this.#address };
    if (blob.type.startsWith("image/")) return el("img", { ...source, alt: name });
    if (blob.type.startsWith("video/"))
      return el("video", { ...source, controls: true, loop: true, "aria-label": name });
    if (blob.type.startsWith("audio/")) return el("audio", { ...source, controls: true, "aria-label": name });
    if (output.type === "text")
      return el("pre", { tabindex: 0, text: await blob.slice(0, 2 ** 20).text() });
    return el("p", { class: "empty", text: "A browser can't show this kind of file. Save it." });
  }

  #clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
    this.dialog.replaceChildren();
  }
}
