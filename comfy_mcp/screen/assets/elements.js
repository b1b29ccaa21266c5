// What jobs and outputs look like, as DOM: no fetch, no streams, no framework, no imports.
//
// A job is what workflow_status answers, an output an item of list_outputs. Texts from outside are only ever
// set as text. Elements are updated in place, so that focus and a screen reader's place stay where they are.

/**
 * An element. `props`: `class`, `text`, `on<event>` functions, and attributes (null and false: left out).
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// ---------------------------------------------------------------------------------------------- words

export const STATUS_WORDS = {
  queued: "Queued",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const FAILURE_WORDS = {
  validation: "Not valid",
  node_error: "A node failed",
  oom: "Out of memory",
  missing_model: "A model is missing",
  missing_input: "An input file is missing",
  engine_lost: "The engine lost it",
  engine_bad_answer: "The engine's answer is unreadable",
  cancelled_externally: "Stopped in ComfyUI",
  parent_failed: "What it waited for failed",
  timeout: "Too late",
  internal: "An internal error",
};

/** What a person can do; a result's own nextStep speaks to programs. */
export const FAILURE_ADVICE = {
  validation: "Correct the workflow and submit it again.",
  node_error: "Correct the workflow and submit it again.",
  oom: "Make it smaller (size, batch, model), or free GPU memory and retry.",
  missing_model: "Install the model on the engine and retry.",
  missing_input: "Submit it again with the file.",
  engine_lost: "Retry to run it again.",
  engine_bad_answer: "Retry, with smaller outputs if they are the reason.",
  cancelled_externally: "Retry to run it again.",
  parent_failed: "Retry what it waited for, then this.",
  timeout: "Retry, or submit it with a longer timeout.",
  internal: "Report it; the server's log has the details.",
};

export function bytesText(count) {
  if (count === null || count === undefined) return "";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds as a person says them: "80 ms", "4.2 s", "42 s", "3 min 5 s", "2 h 10 min". */
export function durationText(ms) {
  if (ms < 950) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 60 / 24)} days`;
}

export function agoText(epochMs, now) {
  const seconds = (now - epochMs) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  const days = Math.round(seconds / 86400);
  return days === 1 ? "1 day ago" : `${days} days ago`;
}

export const shortId = (id) => (id.length > 12 ? id.slice(0, 8) : id);

/** What a person calls a job, and which of that name it is. */
export const called = (job) => (job.name ? `${job.name} (${shortId(job.workflowId)})` : shortId(job.workflowId));

/** A moment as "3 min ago", with the full time as its title; refreshTimes keeps it true. */
export function timeElement(epochMs, now = Date.now()) {
  const date = new Date(epochMs);
  return el("time", {
    datetime: date.toISOString(),
    title: date.toLocaleString(),
    text: agoText(epochMs, now),
  });
}

export function refreshTimes(root, now = Date.now()) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    setText(time, agoText(Date.parse(time.dateTime), now));
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---------------------------------------------------------------------------------------------- jobs

const parts = new WeakMap();

/**
 * A job as an <article>. `actions`: functions of the job for the buttons that there are to be: `cancel` (while
 * it waits or runs), `retry` (once it failed or was cancelled), `details`. `level`: of its heading.
 */
export function jobCard(job, { actions = {}, level = 3 } = {}) {
  const made = {
    actions,
    job,
    name: el(`h${level}`, { class: "job-name", title: job.workflowId }),
    badge: el("span", { class: "badge" }),
    facts: el("p", { class: "job-facts" }),
    bar: el("progress", { class: "bar", max: 100, value: 0 }),
    cause: el("p", { class: "job-cause" }),
    advice: el("p", { class: "job-advice" }),
    thumb: el("div", { class: "job-thumb", hidden: true }),
    silence: el("p", { class: "job-silence" }),
    buttons: {},
  };
  const button = (name, text, look) => {
    if (!actions[name]) return null;
    made.buttons[name] = el("button", {
      type: "button",
      class: look,
      text,
      onclick: () => actions[name](made.job),
    });
    return made.buttons[name];
  };
  const card = el(
    "article",
    { class: "job", "data-id": job.workflowId, tabindex: -1 },
    el(
      "div",
      { class: "job-head" },
      made.name,
      made.badge,
      el(
        "div",
        { class: "job-actions" },
        button("retry", "Retry", "quiet"),
        button("cancel", "Cancel", "quiet"),
        button("details", "Details", "quiet"),
      ),
    ),
    made.thumb,
    made.facts,
    made.bar,
    made.cause,
    made.silence,
    made.advice,
  );
  parts.set(card, made);
  updateJobCard(card, job);
  return card;
}

/** Brings a card that jobCard made up to date. A focused button that goes gives its focus to the card. */
export function updateJobCard(card, job) {
  const made = parts.get(card);
  made.job = job;
  card.dataset.status = job.status;
  const stopping = job.cancelRequested && job.status === "running";
  setText(made.name, job.name || shortId(job.workflowId));
  setLabels(card, made, called(job));
  setText(made.badge, stopping ? "Stopping" : (STATUS_WORDS[job.status] ?? job.status));
  made.facts.replaceChildren(...separated(jobFacts(job)));
  made.bar.hidden = job.status !== "running";
  made.bar.value = job.progress ?? 0;
  const failed = job.status === "failed";
  setText(made.cause, failed ? causeText(job) : waitingText(job));
  made.cause.hidden = !made.cause.textContent;
  setText(made.silence, ["queued", "running"].includes(job.status) ? (job.silence?.message ?? "") : "");
  made.silence.hidden = !made.silence.textContent;
  setText(made.advice, failed ? (FAILURE_ADVICE[job.failure?.kind] ?? "") : "");
  made.advice.hidden = !made.advice.textContent;
  show(card, made.buttons.cancel, ["queued", "running"].includes(job.status) && !job.cancelRequested);
  show(card, made.buttons.retry, ["failed", "cancelled"].includes(job.status));
}

/** The card and what is in it, for a screen reader: without them every card's buttons are the same. */
function setLabels(card, made, name) {
  if (made.label === name) return;
  made.label = name;
  card.setAttribute("aria-label", `Workflow ${name}`);
  made.bar.setAttribute("aria-label", `Progress of workflow ${name}`);
  for (const button of Object.values(made.buttons))
    button.setAttribute("aria-label", `${button.textContent} workflow ${name}`);
}

/** Shows a picture on a job's card; null: none. */
export function setThumb(card, address, alt) {
  const { thumb } = parts.get(card);
  const before = thumb.querySelector("img");
  if (before && address) Object.assign(before, { src: address, alt });
  else thumb.replaceChildren(...(address ? [el("img", { src: address, alt, decoding: "async" })] : []));
  thumb.hidden = !address;
}

function show(card, button, wanted) {
  if (!button || button.hidden === !wanted) return;
  const focused = document.activeElement === button;
  button.hidden = !wanted;
  if (focused && !wanted) card.focus();
}

/** Short facts on a job, as texts and <time> elements. */
export function jobFacts(job) {
  const facts = [];
  const where = job.engine ? `on ${job.engine}` : null;
  if (job.parts) facts.push(job.parts);
  if (job.status === "queued")
    facts.push(job.queuePosition ? `Place ${job.queuePosition}` : "Waiting", turnText(job), where);
  if (job.status === "running") {
    facts.push(`${Math.floor(job.progress ?? 0)} %`, job.currentNode, where);
    if (job.etaMs !== null && job.etaMs !== undefined) facts.push(`about ${durationText(job.etaMs)} left`);
  }
  if (job.status === "completed" && job.outputs) {
    const count = Math.max(job.outputCount ?? 0, job.outputs.length); // a state may name the first ones only
    facts.push(count === 1 ? "1 output" : `${count} outputs`);
  }
  if (job.startTime && job.completionTime)
    facts.push(`took ${durationText(job.completionTime - job.startTime)}`);
  if (job.retriedBy) facts.push(`retried as ${shortId(job.retriedBy)}`);
  if (job.priority && job.priority !== "normal") facts.push(`${job.priority} priority`);
  if (job.client) facts.push(job.client);
  const at = job.completionTime ?? job.createdTime;
  if (at) facts.push(timeElement(at));
  return facts.filter(Boolean);
}

/** Why it failed: kind, node and the engine's own words. */
export function causeText(job) {
  const failure = job.failure;
  if (!failure) return job.error ?? "";
  const node = failure.nodeId
    ? ` (node ${failure.nodeId}${failure.nodeType ? `, ${failure.nodeType}` : ""})`
    : "";
  return `${FAILURE_WORDS[failure.kind] ?? failure.kind}${node}: ${failure.message}`;
}

const inTurn = (job) => job.waitingFor?.reason === "turn";

/** "Ahead of it: 2 yours, 1 of others", of one that waits for nothing but its turn. */
function turnText(job) {
  return inTurn(job) ? job.waitingFor.message.replace(/\.$/, "") : null;
}

export function waitingText(job) {
  return inTurn(job) ? "" : (job.waitingFor?.message ?? "");
}

function separated(facts) {
  return facts.flatMap((fact, place) => [
    ...(place ? [el("span", { class: "dot", "aria-hidden": "true", text: " · " })] : []),
    typeof fact === "string" ? el("span", { text: fact }) : fact,
  ]);
}

// ---------------------------------------------------------------------------------------------- outputs

const KIND_WORDS = {
  image: "Picture",
  video: "Video",
  audio: "Sound",
  text: "Text",
  latent: "Latent",
  "3d": "3D",
  file: "File",
};

export const kindWord = (output) => KIND_WORDS[output.type] ?? "File";

/**
 * Outputs as a <ul> of tiles. `preview(output)` is asked once for an image's tile when it comes into view, and
 * resolves to an address for <img>, or null where there is none; `drop(address)` is called when a tile with it
 * has gone. `open(output)`: what pressing a tile does.
 */
export function gallery(outputs, { preview = null, open = null, drop = null } = {}) {
  const list = el("ul", { class: "gallery", role: "list" });
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        showPreview(entry.target, preview, drop);
      }
    },
    { rootMargin: "200px" },
  );
  parts.set(list, { watcher, preview, open, drop, tiles: new Map() });
  updateGallery(list, outputs);
  return list;
}

/** Shows exactly these outputs, in this order; tiles that were there stay as they are. */
export function updateGallery(list, outputs) {
  const made = parts.get(list);
  const wanted = new Map(outputs.map((output) => [output.outputId, output]));
  for (const [id, tile] of made.tiles) if (!wanted.has(id)) dropTile(made, id, tile);
  let place = list.firstElementChild;
  for (const [id, output] of wanted) {
    let tile = made.tiles.get(id);
    if (!tile) {
      tile = outputTile(output, made.open);
      made.tiles.set(id, tile);
      if (made.preview && output.type === "image" && output.mediaType !== "image/svg+xml") made.watcher.observe(tile);
    }
    if (tile === place) place = place.nextElementSibling;
    else list.insertBefore(tile, place);
  }
}

function dropTile(made, id, tile) {
  made.watcher.unobserve(tile);
  made.tiles.delete(id);
  const address = parts.get(tile).address;
  parts.get(tile).gone = true;
  tile.remove();
  if (address) made.drop?.(address);
}

function outputTile(output, open) {
  const name = output.filename || "text";
  const frame =
    output.type === "text" && output.content
      ? el("span", { class: "tile-text", text: output.content.slice(0, 400) })
      : el("span", { class: "tile-kind", text: kindWord(output) });
  const holder = open
    ? el(
        "button",
        {
          type: "button",
          class: "tile-frame",
          "aria-label": `Show ${kindWord(output)} ${name}`,
          onclick: () => open(output),
        },
        frame,
      )
    : el("div", { class: "tile-frame", role: "img", "aria-label": `${kindWord(output)} ${name}` }, frame);
  const facts = [bytesText(output.size), output.createdAt && timeElement(output.createdAt)].filter(Boolean);
  const tile = el(
    "li",
    { class: "tile", "data-id": output.outputId, "data-kind": output.type },
    holder,
    el("span", { class: "tile-name", title: name, text: name }),
    el("span", { class: "tile-facts" }, ...separated(facts)),
  );
  parts.set(tile, { output, holder, address: null, gone: false });
  return tile;
}

async function showPreview(tile, preview, drop) {
  const made = parts.get(tile);
  let address = null;
  try {
    address = await preview(made.output);
  } catch {
    address = null; // the caller has said why; the tile keeps its word
  }
  if (!address) {
    tile.dataset.preview = "none";
    return;
  }
  if (made.gone) {
    drop?.(address);
    return;
  }
  made.address = address;
  made.holder.replaceChildren(el("img", { src: address, alt: "", decoding: "async" }));
  tile.dataset.preview = "shown";
}
