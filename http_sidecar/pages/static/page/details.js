// One workflow in full: its state, why it failed, what was tried, what it made.

import { partsText } from "./batches.js";
import {
  bytesText,
  causeText,
  durationText,
  el,
  FAILURE_ADVICE,
  gallery,
  jobFacts,
  STATUS_WORDS,
  updateGallery,
  waitingText,
} from "./elements.js";
import { problemLines } from "./notices.js";
import { previews } from "./outputs.js";

/** `actions` (`cancel`, `retry`, `edit`) take a job; `view(output, outputs)` shows an output. */
export class Details {
  #id = null;
  #status = null;
  #gallery = null;

  constructor(api, { actions, view, gone }) {
    Object.assign(this, { api, actions, view, gone });
    this.dialog = document.getElementById("details");
    this.dialog.addEventListener("close", () => this.#clear(), { signal: api.signal });
  }

  async open(id) {
    this.#dropGallery();
    this.#id = id;
    this.#status = null;
    this.#frame(`Workflow ${id}`, el("p", { class: "empty", text: "Loading" }));
    if (!this.dialog.open) this.dialog.showModal();
    await this.#load();
  }

  /** Asks again where what is known of the shown job has changed. */
  changed(jobs) {
    if (this.#id === null || this.#status === null) return;
    const job = jobs.get(this.#id);
    if (!job || job.status !== this.#status) this.#load();
  }

  async #load() {
    const id = this.#id;
    let shown;
    let title;
    try {
      const job = await this.api.get(`v1/comfyui/workflow/${encodeURIComponent(id)}?attempts=true`);
      this.#status = job.status;
      title = job.name;
      shown = this.#body(job);
    } catch (error) {
      this.#status = null;
      if (error.code === "workflow_not_found") {
        this.gone(id);
        shown = [
          el("p", {
            role: "status",
            text: "This workflow no longer exists. Old workflows are deleted after the retention time.",
          }),
        ];
      } else {
        shown = [el("div", { role: "alert" }, ...problemLines(error))];
      }
    }
    if (this.#id === id && this.dialog.open) this.#frame(title || `Workflow ${id}`, ...shown);
  }

  #frame(title, ...body) {
    const inside = this.dialog.contains(document.activeElement);
    const close = el("button", {
      type: "button",
      class: "quiet",
      text: "Close",
      onclick: () => this.dialog.close(),
    });
    this.dialog.replaceChildren(
      el("div", { class: "dialog-head" }, el("h2", { id: "details-title", text: title }), close),
      ...body,
    );
    if (inside) close.focus();
  }

  #body(job) {
    const failed = job.status === "failed";
    const advice = failed ? FAILURE_ADVICE[job.failure?.kind] : null;
    const waits = [job.status === "queued" ? waitingText(job) : "", job.silence?.message].filter(Boolean);
    const statuses = Object.values(job.workflows ?? {});
    const parts = statuses.length ? partsText(statuses) : null;
    const facts = el(
      "p",
      { class: "job-facts" },
      ...jobFacts({ ...job, parts }).flatMap((fact, place) => (place ? [" · ", fact] : [fact])),
    );
    return [
      el(
        "p",
        { "data-status": job.status },
        el("span", { class: "badge", text: STATUS_WORDS[job.status] ?? job.status }),
      ),
      facts,
      failed ? el("p", { class: "full-cause", text: causeText(job) }) : null,
      ...waits.map((text) => el("p", { class: "job-silence", text })),
      advice ? el("p", { class: "job-advice", text: advice }) : null,
      job.warnings?.length
        ? el("ul", { class: "faults warn" }, ...job.warnings.map((text) => el("li", { text })))
        : null,
      el("div", { class: "row" }, ...this.#buttons(job)),
      this.#table(job),
      ...this.#attempts(job),
      ...this.#outputs(job),
    ].filter(Boolean);
  }

  #buttons(job) {
    const act = (name, text) =>
      el("button", { type: "button", text, onclick: () => this.actions[name](job) });
    const edit = act("edit", "Change and run");
    if (["queued", "running"].includes(job.status))
      return job.cancelRequested ? [edit] : [act("cancel", "Cancel"), edit];
    return job.status === "completed" ? [edit] : [act("retry", "Retry"), edit];
  }

  #table(job) {
    const time = (ms) => (ms ? new Date(ms).toLocaleString() : null);
    const rows = [
      ["Id", job.workflowId],
      ["Submitted", time(job.createdTime)],
      ["By", job.client],
      ["Priority", job.priority],
      ["Started", time(job.startTime)],
      ["Ended", time(job.completionTime)],
      ["Must start by", time(job.queueDeadline)],
      ["Must end by", time(job.runDeadline)],
      ["Engine", job.engine],
      ["A retry of", job.retryOf],
      ["Retried as", job.retriedBy],
      [
        "GPU time",
        job.gpuSeconds === null || job.gpuSeconds === undefined ? null : durationText(1_000 * job.gpuSeconds),
      ],
      ["Peak VRAM", bytesText(job.peakVramBytes)],
    ];
    return el(
      "dl",
      { class: "facts" },
      ...rows
        .filter(([, value]) => value)
        .flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]),
    );
  }

  #attempts(job) {
    const attempts = job.attempts ?? [];
    if (attempts.length < 2) return []; // the only one has ended as the job has
    const line = (each) => `${each.engine}: ${each.outcome}${each.reason ? ` (${each.reason})` : ""}`;
    return [
      el("h3", { text: "Attempts" }),
      el("ol", { class: "faults" }, ...attempts.slice(0, 50).map((each) => el("li", { text: line(each) }))),
    ];
  }

  #outputs(job) {
    this.#dropGallery();
    if (!job.outputs.length) return [];
    const shown = job.outputs.slice(0, 60);
    this.#gallery = gallery(shown, {
      ...previews(this.api),
      open: (output) => (this.dialog.close(), this.view(output, shown)),
    });
    return [el("h3", { text: "Outputs" }), this.#gallery];
  }

  #dropGallery() {
    if (this.#gallery) updateGallery(this.#gallery, []);
    this.#gallery = null;
  }

  #clear() {
    this.#dropGallery();
    this.#id = null;
    this.#status = null;
    this.dialog.replaceChildren();
  }
}
