// One output, large: a place of its own in the view, since a host's frame is no page to lay a dialog over.

import { bytesText, el, kindWord } from "./elements.js";

/**
 * `load(output)` resolves to `{ address }` (of a picture, a video or a sound), `{ text }`, or null. `show`
 * moves the focus here, `close` gives it back.
 */
export function stageFor(load) {
  const name = el("h2", { class: "stage-name" });
  const facts = el("p", { class: "tile-facts" });
  const content = el("div", { class: "stage-content" });
  const close = el("button", { type: "button", class: "quiet", text: "Close" });
  const head = el("div", { class: "stage-head" }, el("div", { class: "stage-title" }, name, facts), close);
  const stage = el("section", { class: "stage", tabindex: -1, hidden: true }, head, content);
  let [current, before] = [null, null];

  const hide = () => {
    if (!current) return;
    current = null;
    stage.hidden = true;
    content.replaceChildren();
    if (before?.isConnected) before.focus();
  };
  close.addEventListener("click", hide);
  stage.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });

  const show = async (output) => {
    if (!current) before = document.activeElement;
    current = output;
    const title = output.filename || "text";
    name.textContent = title;
    facts.textContent = [kindWord(output), bytesText(output.size)].filter(Boolean).join(" · ");
    stage.setAttribute("aria-label", `${kindWord(output)} ${title}`);
    content.replaceChildren(el("p", { class: "note", text: "Loading…" }));
    stage.hidden = false;
    stage.focus();
    let found;
    try {
      found = shown(output, await load(output));
    } catch (error) {
      found = el("p", { class: "note", text: `It can't be shown. ${error.message}` });
    }
    if (current === output) content.replaceChildren(found);
  };
  return { element: stage, show, hide };
}

function shown(output, found) {
  if (found?.text) return el("pre", { class: "stage-text", tabindex: 0, text: found.text });
  const address = found?.address;
  const name = output.filename || output.outputId;
  if (address && output.type === "image") return el("img", { src: address, alt: name });
  if (address && output.type === "video") return el("video", { src: address, controls: true, "aria-label": name });
  if (address && output.type === "audio") return el("audio", { src: address, controls: true, "aria-label": name });
  return el("p", { class: "note", text: "There is no preview of this file here." });
}
