// What the page tells beside its lists: notices that stay until they are closed, and a voice for screen readers.

import { el } from "./elements.js";

const MAX_NOTICES = 4;
const MAX_LINES = 100;
const SPEAK_EVERY_MS = 1_500;

/** `tone` is `good` or `bad`. `problem`: an error with code, nextStep, problems and warnings, or null. */
export function notice(tone, title, problem = null) {
  const place = document.getElementById("notices");
  const box = el("div", { class: "notice", "data-tone": tone, role: tone === "bad" ? "alert" : "status" });
  const close = el("button", {
    type: "button",
    class: "quiet",
    "aria-label": `Close: ${title}`,
    text: "Close",
  });
  close.addEventListener("click", () => {
    box.remove();
    document.getElementById("main").focus({ preventScroll: true });
  });
  const body = el("div", {}, el("p", { class: "notice-title", text: title }));
  if (problem) body.append(...problemLines(problem));
  place.prepend(box);
  box.append(body, close); // into a region that is there already: only then is it read out
  while (place.children.length > MAX_NOTICES) place.lastElementChild.remove();
  return box;
}

/** An error as a person reads it: message and code, what is missing and each fault of a graph, warnings, the
 * next step. */
export function problemLines(problem) {
  const faults = [...(problem.missing ?? []), ...(problem.problems ?? []).map((each) => each.message)];
  // Where the faults are listed, the message would only say the first of them again.
  const lines = [
    el(
      "p",
      {},
      faults.length ? null : el("span", { text: `${problem.message} ` }),
      el("code", { text: problem.code }),
    ),
  ];
  lines.push(...listed(faults, "faults"), ...listed(problem.warnings ?? [], "faults warn"));
  if (problem.nextStep) lines.push(el("p", { class: "next-step", text: problem.nextStep }));
  return lines;
}

function listed(texts, kind) {
  if (!texts.length) return [];
  const more = texts.length - MAX_LINES;
  const list = el("ul", { class: kind }, ...texts.slice(0, MAX_LINES).map((text) => el("li", { text })));
  return more > 0 ? [list, el("p", { text: `and ${more} more` })] : [list];
}

// -------------------------------------------------------------------------------------------------- voice

let waiting = new Map();
let speaking = null;

/** Says that `count` more of a kind happened; what comes close together is said in one sentence. */
export function say(one, many, count = 1) {
  const before = waiting.get(many);
  waiting.set(many, { one: before ? null : one, count: (before?.count ?? 0) + count });
  speaking ??= setTimeout(speak, SPEAK_EVERY_MS);
}

function speak() {
  const said = [...waiting].map(([many, { one, count }]) => (one && count === 1 ? one : `${count} ${many}`));
  waiting = new Map();
  speaking = null;
  document.getElementById("says").textContent = `${said.join(", ").replace(/\.$/, "")}.`;
}
