// Follows a workflow by asking for its state, until it has ended.

import { HostError } from "./view-host.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const PACE_MS = { fresh: 1_000, later: 2_500, unseen: 15_000, slowest: 20_000 };
const FRESH_MS = 60_000;
const FAILURES = 8; // in a row, then a person is asked

export const hasEnded = (job) => ENDED.has(job.status);

/**
 * `heard(job)` for every state; `troubled(error, goesOn)` when asking failed: either it is tried again by
 * itself, or following has ended. Returns a function that ends it.
 */
export function follow(server, workflowId, { heard, troubled }) {
  let [ended, failures, wake] = [false, 0, () => {}];
  const began = Date.now();

  const pause = (ms) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  const pace = () => {
    if (failures) return Math.min(PACE_MS.slowest, PACE_MS.fresh * 2 ** failures);
    if (document.hidden) return PACE_MS.unseen;
    return Date.now() - began < FRESH_MS ? PACE_MS.fresh : PACE_MS.later;
  };
  const seen = () => {
    if (!document.hidden) wake();
  };

  const ask = async () => {
    let job;
    try {
      job = (await server.call("workflow_status", { workflow_id: workflowId })).structuredContent;
    } catch (error) {
      if (ended) return;
      failures += 1;
      const passing = error instanceof HostError ? error.timedOut : error.retryable;
      ended = !passing || failures >= FAILURES;
      troubled(error, !ended);
      return;
    }
    if (ended) return;
    failures = 0;
    ended = !job || hasEnded(job);
    if (job) heard(job);
  };

  const run = async () => {
    document.addEventListener("visibilitychange", seen);
    while (!ended) {
      await ask();
      if (!ended) await pause(pace());
    }
    document.removeEventListener("visibilitychange", seen);
  };
  run();
  return () => {
    ended = true;
    wake();
  };
}
