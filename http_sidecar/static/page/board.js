// What is known of the jobs: a copy of what the service last said, kept fresh by its events.

const MAX_QUEUED = 100; // the rest of the queue is counted, not kept
const MAX_ENDED = 300;
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
    return this.#with((job) => job.status === "running").sort((a, b) => (a.startTime ?? 0) - (b.startTime ?? 0));
  }

  /** What waits, in run order as far as it is known. */
  get queued() {
    const place = (job) => job.queuePosition ?? Infinity;
    return this.#with((job) => job.status === "queued").sort((a, b) => place(a) - place(b) || a.createdTime - b.createdTime);
  }

  /** What has ended and passes the filter, the newest first. */
  get ended() {
    const at = (job) => job.completionTime ?? job.createdTime;
    return this.#with((job) => hasEnded(job) && (!this.filter || job.status === this.filter)).sort((a, b) => at(b) - at(a));
  }

  #with(test) {
    return [...this.jobs.values()].filter(test);
  }

  /** The answers of `queue` and of the first page of `workflows`, which are everything that counts now. */
  replace(queue, page) {
    const known = new Map();
    for (const job of [...page.workflows, ...queue.running, ...queue.queued]) known.set(job.workflowId, this.#merged(job));
    // Older pages that were asked for stay, as do ends that a page read before them can't know.
    for (const job of this.ended) if (!known.has(job.workflowId)) known.set(job.workflowId, job);
    this.jobs = known;
    this.counts = queue.counts;
    this.foreignCount = queue.foreignCount;
    this.#forgetOldest();
  }

  addPage(page) {
    for (const job of page.workflows) this.jobs.set(job.workflowId, this.#merged(job));
    this.cursor = page.nextCursor;
  }

  /** One job as the service says it is. */
  put(job) {
    this.jobs.set(job.workflowId, this.#merged(job));
  }

  forget(id) {
    this.jobs.delete(id);
  }

  clearEnded() {
    for (const job of this.jobs.values()) if (hasEnded(job)) this.jobs.delete(job.workflowId);
  }

  /** An answer may be older than an event that came while it was made: an end is never taken back. */
  #merged(job) {
    const before = this.jobs.get(job.workflowId);
    return before && hasEnded(before) && !hasEnded(job) ? before : { ...before, ...job };
  }

  #forgetOldest() {
    const at = (job) => job.completionTime ?? job.createdTime;
    const ended = this.#with(hasEnded).sort((a, b) => at(b) - at(a));
    for (const job of ended.slice(MAX_ENDED)) this.jobs.delete(job.workflowId);
  }

  /** A message of the stream (docs/streams.md). Answers whether the rest of it is worth asking for. */
  tell(message) {
    const id = message.workflowId;
    const before = this.jobs.get(id);
    if (!before && message.type === "workflow:queued" && this.queued.length >= MAX_QUEUED) return true;
    if (before && hasEnded(before)) return false;
    const blank = { workflowId: id, outputs: [], progress: 0, createdTime: message.timestamp, startTime: null, completionTime: null };
    this.jobs.set(id, { ...blank, ...before, ...changes(message) });
    return message.type !== "workflow:progress" || !before;
  }
}

function changes(message) {
  switch (message.type) {
    case "workflow:queued":
      return { status: "queued", queuePosition: message.queuePosition, progress: 0 };
    case "workflow:started":
      return { status: "running", startTime: message.timestamp, queuePosition: null };
    case "workflow:progress":
      return { status: "running", progress: message.progress, currentNode: message.currentNode };
    case "workflow:completed":
      return { status: "completed", completionTime: message.timestamp, outputs: message.outputs, progress: 100 };
    case "workflow:error":
      return { status: "failed", completionTime: message.timestamp, error: message.error };
    case "workflow:cancelled":
      return { status: "cancelled", completionTime: message.timestamp };
    default:
      return {}; // a message of a newer service
  }
}
