// What is known of the jobs: a copy of what the service last said, kept fresh by its events.

import { grouped } from "./batches.js";
import { called } from "./elements.js";

const MAX_QUEUED = 100; // the rest of the queue is counted, not kept
const MAX_ENDED = 300;
const PARENTS_NAMED = 3;
const ENDED = ["completed", "failed", "cancelled"];

export const hasEnded = (job) => ENDED.includes(job.status);

export class Board {
  jobs = new Map();
  counts = {};
  foreignCount = 0;
  filter = "";
  cursor = null;

  /** What runs, the longest first. */
  get running() {
    return this.#with((job) => job.status === "running").sort(
      (a, b) => (a.startTime ?? 0) - (b.startTime ?? 0),
    );
  }

  /** What waits, in run order as far as it is known. */
  get queued() {
    const place = (job) => job.queuePosition ?? Infinity;
    return this.#with((job) => job.status === "queued")
      .sort((a, b) => place(a) - place(b) || a.createdTime - b.createdTime)
      .map((job) => this.#withParents(job));
  }

  /** What has ended and passes the filter, the newest first. */
  get ended() {
    const at = (job) => job.completionTime ?? job.createdTime;
    return this.#with((job) => hasEnded(job) && (!this.filter || job.status === this.filter)).sort(
      (a, b) => at(b) - at(a),
    );
  }

  /** What it waits for, by name where that is known. */
  #withParents(job) {
    const parents = (job.after ?? []).map((id) => this.jobs.get(id)).filter(Boolean);
    if (job.waitingFor?.reason !== "parent" || !parents.length || parents.length < job.after.length) return job;
    const named = parents.slice(0, PARENTS_NAMED).map(called).join(", ");
    const more = parents.length > PARENTS_NAMED ? ` and ${parents.length - PARENTS_NAMED} more` : "";
    return { ...job, waitingFor: { ...job.waitingFor, message: `Waits for the end of ${named}${more}.` } };
  }

  /** Batches count as one, whatever part of them each is. */
  #with(test) {
    return grouped([...this.jobs.values()]).filter(test);
  }

  /**
   * The answers of `queue` and of the first page of ended `workflows`, asked for at `askedAt` (performance.now()): they
   * are everything that counts. What is not in them has gone, but older pages that were asked for, and what
   * events brought since.
   */
  replace(queue, page, askedAt) {
    const known = new Map();
    for (const job of [...page.workflows, ...queue.running, ...queue.queued, ...queue.blocked]) {
      known.set(job.workflowId, this.#merged(job, askedAt));
    }
    const oldest =
      page.nextCursor === null ? -Infinity : Math.min(...page.workflows.map((job) => job.createdTime));
    for (const job of this.jobs.values()) {
      const older = hasEnded(job) && job.createdTime < oldest;
      if (!known.has(job.workflowId) && (older || this.#toldSince(job, askedAt)))
        known.set(job.workflowId, job);
    }
    this.jobs = known;
    this.counts = queue.counts;
    this.foreignCount = queue.foreignCount;
    this.#forgetOldest();
  }

  addPage(page, askedAt) {
    for (const job of page.workflows) this.jobs.set(job.workflowId, this.#merged(job, askedAt));
    this.cursor = page.nextCursor;
  }

  /** A person wants it stopped: shown at once, though the answer may take seconds. */
  stopping(job) {
    const ids = job.jobs?.map((each) => each.workflowId) ?? Object.keys(job.workflows ?? {});
    for (const id of ids.length ? ids : [job.workflowId]) {
      const known = this.jobs.get(id);
      if (known && !hasEnded(known)) this.jobs.set(id, { ...known, cancelRequested: true });
    }
  }

  forget(id) {
    this.jobs.delete(id);
  }

  clearEnded() {
    for (const job of this.jobs.values()) if (hasEnded(job)) this.jobs.delete(job.workflowId);
  }

  /** An answer may be older than the events that came while it was made. */
  #merged(job, askedAt) {
    const before = this.jobs.get(job.workflowId);
    if (!before) return job;
    const newer = this.#toldSince(before, askedAt) || (hasEnded(before) && !hasEnded(job));
    return newer ? { ...job, ...before } : { ...before, ...job };
  }

  #toldSince(job, askedAt) {
    return (job.toldAt ?? -Infinity) >= askedAt;
  }

  #forgetOldest() {
    const at = (job) => job.completionTime ?? job.createdTime;
    const ended = [...this.jobs.values()].filter(hasEnded).sort((a, b) => at(b) - at(a));
    for (const job of ended.slice(MAX_ENDED)) this.jobs.delete(job.workflowId);
  }

  /** A message of the stream (docs/streams.md). Answers whether the rest of it is worth asking for. */
  tell(message) {
    const id = message.workflowId;
    const before = this.jobs.get(id);
    if (!before && message.type === "workflow:queued" && this.queued.length >= MAX_QUEUED) return true;
    if (before && hasEnded(before)) return false;
    const blank = { workflowId: id, outputs: [], progress: 0, createdTime: message.timestamp };
    this.jobs.set(id, { ...blank, ...before, ...changes(message), toldAt: performance.now() });
    return message.type !== "workflow:progress" || !before;
  }
}

function changes(message) {
  switch (message.type) {
    case "workflow:queued":
      return {
        status: "queued",
        queuePosition: message.queuePosition,
        waitingFor: message.waitingFor,
        progress: 0,
      };
    case "workflow:started":
      return { status: "running", startTime: message.timestamp, queuePosition: null, waitingFor: null };
    case "workflow:progress":
      return { status: "running", progress: message.progress, currentNode: message.currentNode };
    case "workflow:completed":
      return {
        status: "completed",
        completionTime: message.timestamp,
        outputs: message.outputs.map((each) => ({ ...each, outputId: each.url?.split("/").pop() })),
        progress: 100,
      };
    case "workflow:error":
      return { status: "failed", completionTime: message.timestamp, error: message.error };
    case "workflow:cancelled":
      return { status: "cancelled", completionTime: message.timestamp };
    default:
      return {}; // a message of a newer service
  }
}
