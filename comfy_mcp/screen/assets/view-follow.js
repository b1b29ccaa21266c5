// Follows a workflow by asking for its state, until it has ended.

import { HostError } from "./view-host.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const PACE_MS = { fresh: 1_000, later: 2_500, unseen: 15_000, slowest: 20_000 };
const FRESH_MS = 60_000;
const FAILURES = 8; // in a row, then a person is asked

export const hasEnded = (job) => ENDED.has(job.status);

/**
 * `received(job)` for every state; `troubled(error, goesOn)` when asking failed: either it is tried again by
 * itself, or following has ended. Returns a function that ends it.
 */
export function follow(server, workflowId, { received, troubled }) {
  let [ended, failures, wake] = [false, 0, () => {}];
  const began = Date.now();
  const sight = sightOf(document.documentElement, () => wake());

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
    if (!sight.seen()) return PACE_MS.unseen;
    return Date.now() - began < FRESH_MS ? PACE_MS.fresh : PACE_MS.later;
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
    if (job) received(job);
  };

  const run = async () => {
    while (!ended) {
      await ask();
      if (!ended) await pause(pace());
    }
    sight.close();
  };
  run();
  return () => {
    ended = true;
    wake();
  };
}

/** Whether anybody can see the view: a conversation scrolls on, and old views stay in it. `appeared`: now one can. */
function sightOf(element, appeared) {
  let inView = true;
  const seen = () => inView && !document.hidden;
  const look = () => {
    if (seen()) appeared();
  };
  const observer = new IntersectionObserver((entries) => {
    const before = inView;
    inView = entries.at(-1).isIntersecting;
    if (inView && !before) look();
  });
  observer.observe(element);
  document.addEventListener("visibilitychange", look);
  return {
    seen,
    close() {
      observer.disconnect();
      document.removeEventListener("visibilitychange", look);
    },
  };
}
