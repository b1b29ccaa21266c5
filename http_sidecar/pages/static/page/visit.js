// What is shown while a key is good, or while none is asked for: the lists, the machines and the gallery, kept fresh.

import { Api, isGone } from "./api.js";
import { countOf } from "./batches.js";
import { Board } from "./board.js";
import { Cards } from "./cards.js";
import { Details } from "./details.js";
import { called, refreshTimes, shortId } from "./elements.js";
import { showLink } from "./link.js";
import { showMachines } from "./machines.js";
import { notice, say } from "./notices.js";
import { Outputs } from "./outputs.js";
import { Pace } from "./pace.js";
import { Picker } from "./picker.js";
import { acceptFiles } from "./submit.js";
import { Thumbs } from "./thumbs.js";
import { Viewer } from "./viewer.js";

const MAX_WAITING_SHOWN = 10;
const RECENT_PAGE = 8;
const MAX_RECENT_SHOWN = 150;
const ENDS = {
  "workflow:completed": ["completed", "workflows completed"],
  "workflow:error": ["failed", "workflows failed"],
  "workflow:cancelled": ["cancelled", "workflows cancelled"],
};

const $ = (id) => document.getElementById(id);

/** One visit with one key, until it is closed: nothing of it is shown or asked for after that. */
export class Visit {
  #board = new Board();
  #recentShown = RECENT_PAGE;
  #drawing = false;
  #seen = null; // when the lists were last known to be true
  #admitted = false;

  /** `denied(why)`: the service does not take the key. */
  constructor(key, denied) {
    this.denied = denied;
    this.api = new Api(key, () => this.#denied());
    const { signal } = this.api;
    $("try-now").addEventListener("click", () => this.api.retryNow(), { signal });
    this.lists = new Pace(() => this.#quietly(() => this.#refreshLists()), {
      minMs: 3_000,
      everyMs: 20_000,
      signal,
    });
    this.machines = new Pace(() => this.#quietly(() => this.#refreshMachines()), {
      minMs: 5_000,
      everyMs: 10_000,
      signal,
    });
    this.gallery = new Pace(() => this.#quietly(() => this.outputs.refresh()), {
      minMs: 3_000,
      everyMs: 60_000,
      signal,
    });
  }

  close() {
    this.api.close();
    this.outputs?.close();
    this.cards?.show([
      [$("active"), [], ""],
      [$("recent"), [], ""],
    ]);
    $("machines").replaceChildren();
  }

  async open() {
    showLink("busy", "Connecting");
    await this.api.follow({
      opened: (again) => this.#opened(again),
      lost: (problem, at) => this.#lost(problem, at),
      received: (message) => this.#received(message),
    });
  }

  #denied() {
    const why = this.#admitted
      ? "The key is no longer accepted. Enter another."
      : "This key is not accepted.";
    this.denied(this.api.key === null ? "" : why);
  }

  /** The stream is there: so is the service, and the key is good. */
  #opened(again) {
    $("banner").hidden = true;
    showLink("good", "Live");
    if (again) say("The server is back", "times the service came back");
    this.#admit();
  }

  #admit() {
    if (!this.#admitted) this.#build();
    this.#admitted = true;
    for (const pace of [this.lists, this.machines, this.gallery]) pace.now();
  }

  #build() {
    const { signal } = this.api;
    const hadForm = !$("key").hidden;
    $("key").hidden = true;
    $("board").hidden = $("totals").hidden = false;
    $("forget").hidden = this.api.key === null;
    const actions = { cancel: (job) => this.#cancel(job), retry: (job) => this.#retry(job) };
    this.picker = new Picker(this.api, () => this.lists.soon());
    this.viewer = new Viewer(this.api, {
      openJob: (id) => this.details.open(id),
      use: (output) => this.picker.open(output),
    });
    this.details = new Details(this.api, {
      actions: { ...actions, edit: (job) => this.#edit(job) },
      view: (output, outputs) => this.viewer.open(output, outputs),
      gone: (id) => (this.#board.forget(id), this.#draw()),
    });
    this.outputs = new Outputs(this.api, (output, outputs) => this.viewer.open(output, outputs));
    const details = (job) => this.details.open(job.workflowId);
    this.cards = new Cards({ ...actions, details }, new Thumbs(this.api));
    acceptFiles(this.api, () => this.lists.soon());
    $("pick").addEventListener("click", () => this.picker.open(), { signal });
    $("recent-filter").value = "";
    $("recent-filter").addEventListener("change", () => this.#filter(), { signal });
    $("recent-more").addEventListener("click", () => this.#act(() => this.#older()), { signal });
    $("outputs-more").addEventListener("click", () => this.#act(() => this.outputs.showOlder()), { signal });
    const clock = setInterval(() => refreshTimes(document), 30_000);
    signal.addEventListener("abort", () => clearInterval(clock), { once: true });
    if (hadForm) $("main").focus();
  }

  #lost(problem, at) {
    const seconds = Math.round((at - Date.now()) / 1_000);
    const since = this.#seen ? ` What you see is from ${new Date(this.#seen).toLocaleTimeString()}.` : "";
    showLink("bad", "Not connected");
    if ($("banner").hidden) say(problem.message, "times the connection was lost");
    $("banner-text").textContent =
      `${problem.message} ${problem.code === "unreachable" ? "" : problem.nextStep}${since} Trying again in ${seconds} s.`;
    $("banner").hidden = false;
    // It answers, only not with a stream: what the lists say is asked for now and then all the same.
    if (problem.status && problem.code !== "bad_answer") this.#admit();
  }

  #received(message) {
    const ask = this.#board.tell(message);
    const end = ENDS[message.type];
    if (end) say(`Workflow ${called(this.#board.jobs.get(message.workflowId) ?? message)} ${end[0]}`, end[1]);
    if (ask) this.lists.soon();
    if (message.type === "workflow:completed" && message.outputs.length) this.gallery.soon();
    this.#draw();
  }

  // -------------------------------------------------------------------------------------------- asking

  async #refreshLists() {
    const filter = this.#board.filter;
    const askedAt = performance.now();
    const [queue, page] = await Promise.all([
      this.api.get("v1/comfyui/queue", { patient: true }),
      this.api.get(this.#recentPath(filter), { patient: true }),
    ]);
    if (filter !== this.#board.filter) return;
    this.#board.replace(queue, page, askedAt);
    this.#board.cursor ??= page.nextCursor;
    this.#seen = Date.now();
    this.#draw();
  }

  #recentPath(filter) {
    return `v1/comfyui/workflows?limit=${3 * RECENT_PAGE}&status=${filter || "ended"}`;
  }

  async #refreshMachines() {
    showMachines($("machines"), await this.api.get("v1/status", { patient: true }));
  }

  async #older() {
    this.#recentShown = Math.min(this.#recentShown + 3 * RECENT_PAGE, MAX_RECENT_SHOWN);
    if (this.#board.cursor && this.#board.ended.length < this.#recentShown) {
      const path = `${this.#recentPath(this.#board.filter)}&cursor=${encodeURIComponent(this.#board.cursor)}`;
      const askedAt = performance.now();
      this.#board.addPage(await this.api.get(path), askedAt);
    }
    this.#draw();
  }

  #filter() {
    this.#board.filter = $("recent-filter").value;
    this.#board.cursor = null;
    this.#board.clearEnded();
    this.#recentShown = RECENT_PAGE;
    this.#act(() => this.#refreshLists());
  }

  async #cancel(job) {
    if (this.details.dialog.open) this.details.dialog.close();
    this.#board.stopping(job);
    this.#draw();
    await this.#act(
      () => this.api.send("DELETE", this.#pathOf(job)),
      `Workflow ${called(job)} was not cancelled`,
      job,
    );
    this.lists.soon();
  }

  async #retry(job) {
    if (this.details.dialog.open) this.details.dialog.close();
    await this.#act(
      async () => {
        const answer = await this.api.submit(`${this.#pathOf(job)}/retry`, {});
        notice("good", `Submitted again as ${shortId(answer.workflowId)}`);
      },
      `Workflow ${called(job)} was not retried`,
      job,
    );
    this.lists.soon();
  }

  #edit(job) {
    this.details.dialog.close();
    this.picker.openNamed(`job:${job.workflowId}`);
  }

  #pathOf(job) {
    return `v1/comfyui/workflow/${encodeURIComponent(job.workflowId)}`;
  }

  /** What a person asked for: a problem is shown. A job that no longer exists leaves the lists. */
  async #act(work, title = "The action failed", job = null) {
    try {
      await work();
    } catch (error) {
      if (this.api.signal.aborted) return;
      notice("bad", title, error);
      if (job && isGone(error)) this.#board.forget(job.workflowId);
    }
    this.#draw();
  }

  /** What the page asks for by itself: the next time may go well, and the stream tells of a service that is gone. */
  async #quietly(work) {
    try {
      await work();
    } catch (error) {
      if (!this.api.signal.aborted && error.code !== "unreachable") showLink("warn", error.message);
    }
  }

  // ------------------------------------------------------------------------------------------- drawing

  /** At most once a frame, however many events come. */
  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.api.signal.aborted) this.#drawNow();
    });
  }

  #drawNow() {
    const board = this.#board;
    const { running, queued, ended } = board;
    const known = [...running, ...queued];
    const counted = (board.counts.queued ?? 0) + (board.counts.blocked ?? 0);
    const waiting = Math.max(counted, countOf(known, "queued"));
    const shown = queued.slice(0, MAX_WAITING_SHOWN);
    const more = waiting - countOf([...running, ...shown], "queued");
    const runs = countOf(known, "running");
    const none = "No workflow is running or queued.";
    this.cards.show([
      [$("active"), [...running, ...shown], none],
      [
        $("recent"),
        ended.slice(0, this.#recentShown),
        board.filter ? `None ${board.filter}.` : "No workflow has ended yet.",
      ],
    ]);
    const rest = [
      more > 0 && `${more.toLocaleString()} more wait`,
      board.foreignCount && `${board.foreignCount}submitted in ComfyUI itself`,
    ].filter(Boolean);
    $("active-more").textContent = rest.join(" · ");
    $("active-more").hidden = !rest.length;
    $("recent-more").hidden =
      this.#recentShown >= MAX_RECENT_SHOWN || (board.cursor === null && ended.length <= this.#recentShown);
    $("totals").textContent = `${runs} running · ${waiting.toLocaleString()} waiting`;
    document.title = `${runs ? `(${runs}) ` : ""}comfy-mcp-bridge`;
    this.details.changed(board.jobs);
  }
}
