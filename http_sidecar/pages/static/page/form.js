// A form made from the parameters of a workflow (describe_workflow). It knows nothing of where they come from.

import { el } from "./elements.js";

const LONG_TEXT = 60; // characters of a value that wants more than one line
const MAX_OPTIONS = 2_000;
const FILES = { image: "image/*", mask: "image/*", video: "video/*", audio: "audio/*", file: "" };

/** Whether a value of the kind is a file. */
export const isFile = (kind) => kind in FILES;

const isNumber = (kind) => kind === "integer" || kind === "number";

/**
 * Fields for `parameters`: `rows` to show, `changed()` the values that are not those of the workflow, and
 * `first`, the field to begin with. `upload(file)` resolves to the name of a file for a workflow; `given`:
 * values by name that stand there from the start.
 */
export function fieldsOf(parameters, { upload, given = {} }) {
  const fields = parameters.map((parameter) => fieldOf(parameter, upload, given[parameter.name]));
  return {
    rows: fields.map((field) => field.row),
    first: (fields.find((field) => field.input.required && !field.input.value) ?? fields[0])?.input ?? null,
    changed: () =>
      Object.fromEntries(
        fields.map((field, place) => [parameters[place].name, field.changed()]).filter(([, value]) => value !== undefined),
      ),
  };
}

function fieldOf(parameter, upload, given) {
  const id = `input-${parameter.name}`;
  const made = make(parameter, id);
  const input = made.input;
  const before = made.read();
  if (given !== undefined) input.value = given;
  const words = (parameter.label ?? parameter.name).replaceAll("_", " ");
  const label = el("label", { for: id, title: parameter.name, text: words });
  const beside = isFile(parameter.type) ? [chooser(parameter, input, words, upload)] : (made.beside ?? []);
  const row = el("div", { class: "field" }, label, beside.length ? el("div", { class: "row" }, input, ...beside) : input);
  return {
    row,
    input,
    changed: () => {
      if (made.random?.checked) return "random";
      const now = made.read();
      const asItIs = now === before || (now === "" && isNumber(parameter.type));
      return asItIs ? undefined : now;
    },
  };
}

/** `input` with `read()`, and what stands `beside` it. */
function make(parameter, id) {
  const { type, value, choices = [], needed } = parameter;
  const text = shownText(value);
  const common = { id, required: needed };
  if (type === "boolean") {
    const input = el("input", { id, type: "checkbox" });
    input.checked = value === true;
    return { input, read: () => input.checked };
  }
  if ((type === "choice" || type === "model") && choices.length) return select(common, choices, value);
  if (isNumber(type)) {
    const input = el("input", { ...common, type: "text", inputmode: type === "integer" ? "numeric" : "decimal", value: text, placeholder: "as it is" });
    const made = { input, read: () => input.value.trim() };
    if (parameter.name.startsWith("seed")) Object.assign(made, randomBox(input));
    else if (parameter.minimum !== undefined && parameter.maximum !== undefined && parameter.maximum < 1e9)
      input.title = `${parameter.minimum} to ${parameter.maximum}`;
    return made;
  }
  const long = type === "text" && (parameter.name.includes("prompt") || text.length > LONG_TEXT || text.includes("\n"));
  const input = long ? el("textarea", { ...common, rows: 3 }) : el("input", { ...common, type: "text" });
  input.value = isFile(type) && needed ? "" : text;
  if (isFile(type)) input.placeholder = "A file, a URL, or output:ID";
  return { input, read: () => input.value };
}

/** A seed may have more digits than a number of JavaScript: what it would show is another one. */
function shownText(value) {
  if (value === null || value === undefined || typeof value === "object") return "";
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? "" : String(value);
}

function select(common, choices, value) {
  const all = choices.includes(value) ? choices : [value, ...choices];
  const shown = all.slice(0, MAX_OPTIONS);
  const input = el("select", common, ...shown.map((each, place) => el("option", { value: place, text: String(each) })));
  input.value = String(shown.indexOf(value));
  return { input, read: () => shown[Number(input.value)] };
}

/** A box beside a seed: while it is checked, each run gets a new one. */
function randomBox(input) {
  const random = el("input", { type: "checkbox", id: `${input.id}-random` });
  random.checked = true;
  input.disabled = true;
  random.addEventListener("change", () => {
    input.disabled = random.checked;
    if (!random.checked) input.focus();
  });
  return { random, beside: [random, el("label", { for: random.id, text: "new each time" })] };
}

/** A button that uploads a file and writes its name into `input`. */
function chooser(parameter, input, words, upload) {
  const files = el("input", { type: "file", accept: FILES[parameter.type] || null, class: "visually-hidden", tabindex: -1, "aria-hidden": "true" });
  const button = el("button", { type: "button", text: "Choose file", "aria-label": `Choose file for ${words}`, onclick: () => files.click() });
  files.addEventListener("change", async () => {
    if (!files.files.length) return;
    button.disabled = true;
    button.textContent = "Uploading";
    const name = await upload(files.files[0]);
    if (name !== null) input.value = name;
    button.disabled = false;
    button.textContent = "Choose file";
    files.value = "";
    input.focus();
  });
  return el("span", {}, files, button);
}
