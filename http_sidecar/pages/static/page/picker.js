// Workflows by name: pick one, fill in its form, submit it.

import { el, kindWord, shortId } from "./elements.js";
import { fieldsOf, isFile } from "./form.js";
import { notice, problemLines } from "./notices.js";

const MAX_SHOWN = 50;
const MAX_LOOKED_AT = 200; // for those that take a file: the server's most
const TYPING_MS = 250;
const MAX_VARIATIONS = 64;

const ORIGINS = {
  saved: "Saved in ComfyUI",
  folder: "Folder",
  starter: "Starter",
  template: "Template",
  job: "Earlier job",
};

/** `submitted()` after each submit that was accepted. */
export class Picker {
  #asked = 0; // an answer to an older question is not shown
  #output = null; // the output that is to be an input
  #typing = null;

  constructor(api, submitted) {
    Object.assign(this, { api, submitted });
    this.dialog = document.getElementById("picker");
    this.dialog.addEventListener("close", () => this.#clear(), { signal: api.signal });
  }

  /** The list; with `output` those that take such a file, which then stands in the form. */
  open(output = null) {
    this.#output = output;
    this.#showList("");
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector("input[type=search]").focus();
  }

  /** The form of one workflow. */
  async openNamed(name) {
    this.#output = null;
    if (!this.dialog.open) this.dialog.showModal();
    await this.#showForm(name, "");
  }

  // ---------------------------------------------------------------------------------------------- list

  #showList(query) {
    const search = el("input", { type: "search", id: "picker-search", value: query, placeholder: "upscale a photo", autocomplete: "off" });
    const list = el("ul", { class: "picks", role: "list", "aria-live": "polite" });
    search.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#find(search.value.trim(), list), TYPING_MS);
    });
    const output = this.#output;
    this.#frame(
      "Run a workflow",
      output ? el("p", { class: "hint", text: `For ${kindWord(output).toLowerCase()} ${output.filename}: workflows that take one.` }) : null,
      el("div", { class: "field" }, el("label", { for: "picker-search", text: "What should it do?" }), search),
      list,
    );
    this.#find(query, list);
  }

  async #find(query, list) {
    const asked = ++this.#asked;
    list.setAttribute("aria-busy", "true");
    const words = query ? `&query=${encodeURIComponent(query)}` : "";
    let shown;
    try {
      const limit = this.#output ? MAX_LOOKED_AT : MAX_SHOWN;
      const found = await this.api.get(`v1/comfyui/library?limit=${limit}${words}`);
      const all = found.workflows;
      const fitting = this.#output ? taking(all, this.#output.type) : all;
      const warnings = (found.warnings ?? []).map((text) => el("li", { class: "empty", text }));
      const more = found.total - all.length;
      shown = [...warnings, ...fitting.slice(0, MAX_SHOWN).map((each) => this.#pick(each, query))];
      if (more > 0 || fitting.length > MAX_SHOWN) shown.push(el("li", { class: "empty", text: "There are more: say what it should do." }));
      if (!shown.length) shown = [el("li", { class: "empty", text: "No workflow." })];
    } catch (error) {
      shown = [el("li", { role: "alert" }, ...problemLines(error))];
    }
    if (asked !== this.#asked || !list.isConnected) return;
    list.removeAttribute("aria-busy");
    list.replaceChildren(...shown);
  }

  #pick(each, query) {
    const runs = each.runnable === true ? "good" : each.runnable === false ? "warn" : null;
    const words = each.runnable === true ? "Runs here" : "Can't run here";
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", class: "pick", "data-name": each.name, onclick: () => this.#showForm(each.name, query) },
        el("span", { class: "pick-name", text: each.label ?? each.name }),
        el("span", { class: "hint", text: ORIGINS[each.origin] ?? each.origin }),
        runs ? el("span", { class: "badge", "data-tone": runs, text: words }) : null,
        each.paid ? el("span", { class: "badge", "data-tone": "warn", text: "Costs credits" }) : null,
        each.about ? el("span", { class: "pick-about", text: each.about }) : null,
        each.missing ? el("span", { class: "pick-about", text: lacks(each.missing) }) : null,
      ),
    );
  }

  // ---------------------------------------------------------------------------------------------- form

  async #showForm(name, query) {
    const asked = ++this.#asked;
    const back = el("button", {
      type: "button",
      class: "quiet",
      text: "Other workflows",
      onclick: () => {
        this.#showList(query);
        this.dialog.querySelector("input[type=search]").focus();
      },
    });
    this.#frame(name, back, el("p", { class: "empty", text: "Loading" }));
    let described;
    try {
      described = await this.api.get(`v1/comfyui/library/inputs?allChoices=true&name=${encodeURIComponent(name)}`);
    } catch (error) {
      if (asked === this.#asked) this.#frame(name, back, el("div", { role: "alert" }, ...problemLines(error)));
      return;
    }
    if (asked !== this.#asked || !this.dialog.open) return;
    const { workflow, parameters } = described;
    const given = this.#given(parameters);
    const left = this.#output && !Object.keys(given).length ? `It takes no ${kindWord(this.#output).toLowerCase()}.` : null;
    const fields = fieldsOf(parameters, { upload: (file) => this.#upload(file), given });
    const [variations, priority] = [variationsField(), priorityField()];
    const problem = el("div", { class: "form-problem", role: "alert" });
    const run = el("button", { type: "submit", class: "primary", text: "Run" });
    const form = el(
      "form",
      { class: "workflow-form", novalidate: true },
      left ? el("p", { class: "machine-warning", text: left }) : null,
      workflow.missing ? el("p", { class: "machine-warning", text: lacks(workflow.missing) }) : null,
      ...fields.rows,
      el("div", { class: "row" }, variations.row, priority.row, run),
      problem,
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const asks = { workflow: name, inputs: fields.changed(), priority: priority.input.value };
      if (Number(variations.input.value) > 1) asks.variations = Number(variations.input.value);
      run.disabled = true;
      await this.#submit(asks, workflow.label ?? name, problem);
      run.disabled = false;
    });
    const about = workflow.about ? el("p", { class: "hint", text: workflow.about }) : null;
    this.#frame(workflow.label ?? name, back, about, form);
    (fields.first ?? run).focus();
  }

  /** The output stands in the first field that takes its kind. */
  #given(parameters) {
    const output = this.#output;
    const field = output && parameters.find((each) => isFile(each.type) && each.type === output.type);
    return field ? { [field.name]: `output:${output.outputId}` } : {};
  }

  async #submit(asks, title, problem) {
    problem.replaceChildren();
    try {
      const answer = await this.api.submit("v1/comfyui/workflow", asks);
      const warned = answer.warnings?.length ? { message: "", code: "warning", warnings: answer.warnings } : null;
      this.dialog.close();
      notice("good", `${title}: submitted as ${shortId(answer.workflowId)}`, warned);
      this.submitted();
    } catch (error) {
      if (!this.api.signal.aborted) showProblem(problem, error);
    }
  }

  /** The file's name for a workflow; null: it was refused, which is said. */
  async #upload(file) {
    const form = new FormData();
    form.append("image", file);
    const place = this.dialog.querySelector(".form-problem");
    try {
      place.replaceChildren();
      const kept = await this.api.send("POST", "v1/comfyui/inputs", form);
      return kept.subfolder ? `${kept.subfolder}/${kept.name}` : kept.name;
    } catch (error) {
      if (!this.api.signal.aborted) showProblem(place, error);
      return null;
    }
  }

  #frame(title, ...body) {
    const close = el("button", { type: "button", class: "quiet", text: "Close", onclick: () => this.dialog.close() });
    const head = el("div", { class: "dialog-head" }, el("h2", { id: "picker-title", text: title }), close);
    const inside = this.dialog.contains(document.activeElement);
    this.dialog.replaceChildren(head, ...body.filter(Boolean));
    if (inside) close.focus();
  }

  #clear() {
    clearTimeout(this.#typing);
    this.#asked += 1;
    this.#output = null;
    this.dialog.replaceChildren();
  }
}

/** Below a long form nobody would see it. */
function showProblem(place, error) {
  place.replaceChildren(...problemLines(error));
  place.scrollIntoView({ block: "nearest" });
}

/** Whether one of its inputs is a file of that kind: they are in words, "image (image, needed)" or "image: …". */
function takes(each, kind) {
  return (each.inputs ?? []).some((text) => text.includes(`(${kind}`) || text.startsWith(kind));
}

/** Those that take the kind, and last those of which the server does not say: it looks into some only. */
function taking(all, kind) {
  const unknown = (each) => each.runnable === undefined || each.runnable === null;
  return [...all.filter((each) => takes(each, kind)), ...all.filter((each) => unknown(each) && !takes(each, kind))];
}

function lacks(missing) {
  const names = [...(missing.classes ?? []), ...(missing.models ?? [])].map((each) => each.name);
  if (!names.length) return missing.other ?? "";
  const more = names.length > 4 ? ` and ${names.length - 4} more` : "";
  return `It needs ${names.slice(0, 4).join(", ")}${more}, which the engine does not have.`;
}

function variationsField() {
  const input = el("input", { id: "picker-variations", type: "number", min: 1, max: MAX_VARIATIONS, value: 1 });
  return { input, row: el("label", { class: "inline", for: input.id }, "Variations ", input) };
}

function priorityField() {
  const words = { high: "High", normal: "Normal", low: "Low" };
  const input = el("select", { id: "picker-priority" }, ...Object.entries(words).map(([value, text]) => el("option", { value, text })));
  input.value = "normal";
  return { input, row: el("label", { class: "inline", for: input.id }, "Priority ", input) };
}
