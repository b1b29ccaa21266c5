// The view of an MCP App: the progress of a workflow and what it made, or a list of outputs.
//
// It has no network of its own. What it shows comes through the host: first the tool's input and result, then
// what it asks for itself. A host that allows less gets a view that says so and keeps what it has.

import { called, el, gallery, jobCard, refreshTimes, updateGallery, updateJobCard } from "./elements.js";
import { follow, hasEnded } from "./view-follow.js";
import { APPS_VERSION, connectHost, HostError, reportSize } from "./view-host.js";
import { previewsOf, serverThrough, textOf } from "./view-server.js";
import { stageFor } from "./view-stage.js";

const MOST_TILES = 300;
const STATE_OUTPUTS = 20; // more than that a workflow's state does not name
const TIMES_MS = 30_000;

const app = {
  host: null,
  server: null,
  previews: null,
  context: {},
  input: {},
  job: null,
  heardAt: null,
  card: null,
  outputs: [],
  list: null,
  more: null, // asks for the next page of outputs
  troubles: new Map(), // what could not be had, by what was wanted: a text and what trying again means
  unfollow: () => {},
  followed: null,
};

const stage = stageFor(loadLarge);
const page = {
  title: el("h1", { class: "visually-hidden", text: "ComfyUI" }),
  note: el("p", { class: "note", role: "status" }),
  alert: el("div", { class: "troubles", role: "alert" }),
  below: el("div", { class: "troubles", role: "alert" }), // beside what was pressed
  job: el("div"),
  warnings: el("ul", { class: "warnings", "aria-label": "Warnings", hidden: true }),
  outputs: el("section", { "aria-label": "Outputs", hidden: true }),
  more: el("button", { type: "button", class: "more", text: "Show more", hidden: true, onclick: () => app.more?.() }),
  spoken: el("p", { class: "visually-hidden", role: "status" }),
};

// -------------------------------------------------------------------------------------------- what is said

function say(text) {
  page.note.textContent = text;
  page.note.hidden = !text;
}

/** One trouble for each thing that was `wanted`. `again`: what its button does; without it there is none. */
function complain(wanted, text, again = null) {
  if (app.troubles.get(wanted) === text) return;
  app.troubles.set(wanted, text);
  const button = again && el("button", { type: "button", class: "quiet", text: "Try again", onclick: again });
  const trouble = el("div", { class: "trouble", "data-wanted": wanted }, el("p", { class: "trouble-text", text }), button);
  troubleOf(wanted)?.remove();
  (wanted === "more" ? page.below : page.alert).append(trouble);
}

function settle(wanted) {
  app.troubles.delete(wanted);
  troubleOf(wanted)?.remove();
}

const troubleOf = (wanted) => document.querySelector(`[data-wanted="${wanted}"]`);

/** A host's refusal is the host's: its words are not the server's. */
function wordsOf(error, asked) {
  if (!(error instanceof HostError)) return error.message;
  if (error.timedOut) return `The host has not answered ${asked}.`;
  return `The host did not carry out ${asked}: ${error.message}`;
}

// -------------------------------------------------------------------------------------------- a workflow

/** What submit, retry and cancel answer is a part of a state. A whole one leaves out what is not so any more. */
const isWhole = (state) => state.progress !== undefined;

function showJob(state) {
  if (app.job?.workflowId === state.workflowId) {
    if (hasEnded(app.job) && !hasEnded(state)) return; // an older answer that came late
    if (!isWhole(state)) state = { ...app.job, ...state };
  }
  const before = app.job;
  app.job = state;
  app.heardAt = new Date();
  if (app.card?.dataset.id === state.workflowId) updateJobCard(app.card, state);
  else {
    const actions = app.server.can.tools ? { cancel: cancelJob, retry: retryJob } : {};
    const focused = app.card?.contains(document.activeElement);
    app.card = jobCard(state, { actions, level: 2 });
    page.job.replaceChildren(app.card);
    if (focused) app.card.focus();
  }
  const warnings = hasEnded(state) ? [] : (state.warnings ?? []);
  page.warnings.replaceChildren(...warnings.map((text) => el("li", { text })));
  page.warnings.hidden = warnings.length === 0;
  if (state.outputs?.length) {
    showOutputs(state.outputs);
    const more = hasEnded(state) && state.outputs.length >= STATE_OUTPUTS;
    offerMore(more ? { workflow_id: state.workflowId, fields: "full" } : null);
  }
  if (before?.workflowId !== state.workflowId || before.status !== state.status) {
    settle("action");
    page.spoken.textContent = `Workflow ${called(state)}: ${state.status}`;
  }
  say("");
}

function followJob(workflowId) {
  if (app.followed === workflowId) return;
  app.unfollow();
  if (!app.server.can.tools) {
    say(`This host lets the view ask for no news: this is how it was at ${new Date().toLocaleTimeString()}.`);
    return;
  }
  app.followed = workflowId;
  app.unfollow = follow(app.server, workflowId, {
    received(state) {
      settle("news");
      showJob(state);
    },
    troubled(error, goesOn) {
      const text = wordsOf(error, "workflow_status");
      if (goesOn) {
        complain("news", text);
        return;
      }
      app.followed = null;
      const kept = app.job ? ` What is shown is from ${app.heardAt.toLocaleTimeString()}.` : "";
      complain("news", text + kept, () => followJob(workflowId));
    },
  });
}

async function cancelJob(job) {
  await act("cancel_workflow", job, (answer) => {
    showJob(answer);
    if (!hasEnded(answer)) followJob(job.workflowId);
  });
}

async function retryJob(job) {
  await act("retry_workflow", job, (answer) => begin(answer));
}

/** One at a time: a second press waits for nothing and does nothing. */
async function act(tool, job, done) {
  if (app.card.getAttribute("aria-busy")) return;
  app.card.setAttribute("aria-busy", "true");
  try {
    const result = await app.server.call(tool, { workflow_id: job.workflowId });
    settle("action");
    done(result.structuredContent);
  } catch (error) {
    complain("action", wordsOf(error, tool));
  } finally {
    app.card.removeAttribute("aria-busy");
  }
}

/** A workflow as a tool's result names it. */
function begin(state) {
  if (app.job && app.job.workflowId !== state.workflowId) {
    showOutputs([]);
    offerMore(null);
    stage.hide();
  }
  showJob(state);
  if (!hasEnded(state)) followJob(state.workflowId);
}

// -------------------------------------------------------------------------------------------- outputs

function showOutputs(outputs) {
  app.outputs = outputs.slice(0, MOST_TILES).map((each) => ({ uri: `comfy://outputs/${each.outputId}`, ...each }));
  page.outputs.hidden = app.outputs.length === 0;
  if (app.list) {
    updateGallery(app.list, app.outputs);
    return;
  }
  app.list = gallery(app.outputs, { preview: loadSmall, open: stage.show, drop: app.previews.drop });
  page.outputs.replaceChildren(app.list);
}

/** A page of list_outputs, after those that are shown. */
function showPage(result, query, before = []) {
  const seen = new Set(before.map((each) => each.outputId));
  showOutputs([...before, ...result.outputs.filter((each) => !seen.has(each.outputId))]);
  say(app.outputs.length ? "" : "No outputs.");
  offerMore(result.nextCursor ? { ...query, cursor: result.nextCursor } : null);
}

/** `query`: the arguments of list_outputs for what comes next, null where nothing does. */
function offerMore(query) {
  const offered = query && app.server.can.tools && app.outputs.length < MOST_TILES;
  app.more = offered ? () => nextPage(query) : null;
  page.more.hidden = !offered;
}

async function nextPage(query) {
  app.more = null; // a second press does nothing
  try {
    const result = await app.server.call("list_outputs", query);
    settle("more");
    showPage(result.structuredContent, query, app.outputs);
  } catch (error) {
    offerMore(query);
    complain("more", wordsOf(error, "list_outputs"));
  }
}

async function loadSmall(output) {
  try {
    return await app.previews.small(output);
  } catch (error) {
    complain("previews", wordsOf(error, "previews"));
    return null;
  }
}

async function loadLarge(output) {
  if (output.type === "image") return { address: await app.previews.large(output) };
  if (output.type === "video" || output.type === "audio") return { address: await app.previews.media(output) };
  if (output.content) return { text: output.content };
  return null;
}

// -------------------------------------------------------------------------------------------- the host

/** Light or dark, its font, and room for what covers the edges. Colours stay ours: their contrast is known. */
function dress(changes) {
  app.context = { ...app.context, ...changes };
  const { theme, styles, safeAreaInsets } = app.context;
  const root = document.documentElement.style;
  root.colorScheme = theme === "dark" || theme === "light" ? theme : "light dark";
  const font = styles?.variables?.["--font-sans"];
  if (typeof font === "string") root.setProperty("--font", font);
  for (const [side, px] of Object.entries(safeAreaInsets ?? {})) root.setProperty(`--inset-${side}`, `${Number(px) || 0}px`);
}

function heardInput({ arguments: input }) {
  app.input = input ?? {};
  const id = app.input.workflow_id ?? app.input.workflowId;
  const waits = app.context.toolInfo?.tool?.name === "wait_for_workflow";
  if (waits && typeof id === "string" && app.server.can.tools) followJob(id);
}

function heardResult(result) {
  const found = result.structuredContent;
  if (result.isError) {
    say("");
    complain("result", textOf(result) || "The tool failed.");
  } else if (typeof found?.workflowId === "string") begin(found);
  else if (Array.isArray(found?.outputs)) showPage(found, app.input);
  else say(textOf(result) || "The result has no content.");
}

function heardCancelled({ reason }) {
  if (!app.job && !app.followed) say(`The call was cancelled${reason ? `: ${reason}` : "."}`);
}

function end() {
  app.unfollow();
  app.followed = null;
}

async function main() {
  document.body.append(
    el("main", {}, page.title, page.note, page.alert, page.job, page.warnings, stage.element, page.outputs, page.more, page.below, page.spoken),
  );
  if (window.parent === window) {
    say("This view works in hosts of MCP Apps only.");
    return;
  }
  say("Waiting for the host…");
  let ready = () => {};
  const isReady = new Promise((resolve) => (ready = resolve));
  const later = (handler) => async (params) => {
    await isReady; // a host may send before it knows that we listen
    handler(params);
  };
  app.host = connectHost({
    notified: {
      "ui/notifications/tool-input": later(heardInput),
      "ui/notifications/tool-result": later(heardResult),
      "ui/notifications/tool-cancelled": later(heardCancelled),
      "ui/notifications/host-context-changed": later(dress),
    },
    requested: { ping: () => ({}), "ui/resource-teardown": end },
  });
  try {
    const hello = await app.host.request("ui/initialize", {
      appInfo: { name: "comfy-mcp-bridge", version: "1" },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
      protocolVersion: APPS_VERSION,
    });
    app.server = serverThrough(app.host, hello.hostCapabilities);
    app.previews = previewsOf(app.server);
    dress(hello.hostContext ?? {});
  } catch (error) {
    say(wordsOf(error, "ui/initialize"));
    return;
  }
  say("Waiting for the result…");
  app.host.notify("ui/notifications/initialized");
  reportSize(app.host);
  ready();
  setInterval(() => refreshTimes(document), TIMES_MS);
}

main();
