// The workflows of one batch as one, as the lists show them.

const OPEN = ["running", "queued"];
const IN_WORDS = [...OPEN, "blocked", "completed", "failed", "cancelled"];

/** `jobs` with those of a batch in the place of its first one, where more than one of it is known. */
export function grouped(jobs) {
  const batches = new Map();
  for (const job of jobs) if (job.batch) batches.set(job.batch, [...(batches.get(job.batch) ?? []), job]);
  const shown = [];
  for (const job of jobs) {
    const all = batches.get(job.batch) ?? [job];
    if (all.length === 1) shown.push(job);
    else if (all[0] === job) shown.push(together(all));
  }
  return shown;
}

/** How many of the shown ones have that status, with each of a batch. */
export function countOf(shown, status) {
  return shown.flatMap((job) => job.jobs ?? [job]).filter((job) => job.status === status).length;
}

function together(known) {
  const jobs = [...known].sort((a, b) => a.createdTime - b.createdTime);
  const first = jobs[0];
  const status = statusOf(jobs.map((job) => job.status));
  const shown = jobs.find((job) => job.status === status) ?? first;
  const open = jobs.filter((job) => OPEN.includes(job.status));
  const failed = jobs.find((job) => job.failure || job.error);
  return {
    ...shown,
    workflowId: first.batch,
    previewOf: shown.workflowId,
    name: first.name,
    status,
    jobs,
    parts: partsText(jobs.map((job) => job.status)),
    progress: jobs.reduce((sum, job) => sum + (OPEN.includes(job.status) ? (job.progress ?? 0) : 100), 0) / jobs.length,
    etaMs: null,
    createdTime: first.createdTime,
    startTime: least(jobs, "startTime"),
    completionTime: open.length ? null : Math.max(...jobs.map((job) => job.completionTime ?? 0)),
    outputs: jobs.flatMap((job) => job.outputs ?? []),
    outputCount: jobs.reduce((sum, job) => sum + (job.outputCount ?? 0), 0),
    failure: failed?.failure ?? null,
    error: failed?.error ?? null,
    retriedBy: null,
    cancelRequested: open.length > 0 && open.every((job) => job.cancelRequested),
  };
}

/** As the service combines them (docs/agents.md, "Many at once"). */
function statusOf(statuses) {
  if (statuses.every((status) => status === "queued")) return "queued";
  if (statuses.some((status) => OPEN.includes(status))) return "running";
  return ["failed", "cancelled"].find((status) => statuses.includes(status)) ?? "completed";
}

/** "3 workflows: 1 running, 2 queued" */
export function partsText(statuses) {
  const count = (status) => statuses.filter((each) => each === status).length;
  const found = IN_WORDS.filter((status) => count(status) > 0);
  return `${statuses.length} workflows: ${found.map((status) => `${count(status)} ${status}`).join(", ")}`;
}

function least(jobs, member) {
  const known = jobs.map((job) => job[member]).filter((value) => value !== null && value !== undefined);
  return known.length ? Math.min(...known) : null;
}
