// Engines and GPUs, with what is wrong with them.

import { bytesText, el } from "./elements.js";

const VRAM_NEARLY_FULL = 0.92;
const MAX_SHOWN = 32;
const STATES = { lost: "Lost", reset_required: "Needs a reset", failed: "Failed" };

/** `status`: what system_status answers. */
export function showMachines(place, status) {
  const problems = [...new Set([...status.problems, ...status.gpu.problems])];
  place.replaceChildren(
    ...(problems.length
      ? [el("ul", { class: "faults warn" }, ...problems.map((text) => el("li", { text })))]
      : []),
    el("ul", { class: "machine-list", role: "list" }, ...status.engines.slice(0, MAX_SHOWN).map(engineItem)),
    gpus(status.gpu),
  );
}

function engineItem(engine) {
  const facts = [
    engine.version && `${engine.isComfyui === false ? "engine" : "ComfyUI"} ${engine.version}`,
    engine.up && engine.queueRemaining !== null && `${engine.queueRemaining} in its queue`,
    engine.drivenBy === null ? "driven by nobody: its jobs wait" : `driven by ${engine.drivenBy}`,
  ];
  return machine(
    engine.id,
    engine.up ? ["good", "Up"] : ["bad", "Down"],
    facts,
    engine.error ? [engine.error] : [],
  );
}

function gpus(gpu) {
  const gone = gpu.gone.map((item) =>
    machine(item.name, ["bad", "Gone"], [], ["The driver no longer shows it."]),
  );
  if (!gpu.gpus.length && !gone.length)
    return el("p", { class: "empty", text: `No GPU: ${gpu.reason ?? "none reported"}` });
  return el(
    "ul",
    { class: "machine-list", role: "list" },
    ...gpu.gpus.slice(0, MAX_SHOWN).map(gpuItem),
    ...gone,
  );
}

function gpuItem(gpu) {
  const { used, total } = gpu.memory;
  const known = used !== null && total;
  const slowed = gpu.slowedBy ?? [];
  const hot = gpu.temperature !== null && gpu.temperatureLimit && gpu.temperature >= gpu.temperatureLimit;
  const full = known && used / total >= VRAM_NEARLY_FULL;
  const warnings = [
    gpu.fault,
    slowed.length && `Slowed by ${slowed.join(", ")}`,
    hot && "At its temperature limit",
    full && "Memory is nearly full",
    gpu.eccUncorrected && `${gpu.eccUncorrected} uncorrected memory errors`,
  ].filter(Boolean);
  const badge =
    gpu.state === "ok"
      ? warnings.length
        ? ["warn", "Look"]
        : ["good", "OK"]
      : ["bad", STATES[gpu.state] ?? gpu.state];
  const facts = [
    gpu.engine ? `seen by ${gpu.engine}` : `GPU ${gpu.index}`,
    gpu.temperature !== null && `${Math.round(gpu.temperature)} °C`,
    gpu.powerWatts !== null &&
      `${Math.round(gpu.powerWatts)}${gpu.powerLimitWatts ? ` of ${Math.round(gpu.powerLimitWatts)}` : ""} W`,
  ];
  const meters = [
    gpu.utilization !== null && meter("Load", gpu.utilization, 100, `${Math.round(gpu.utilization)} %`),
    known && meter("Memory", used, total, `${bytesText(used)} of ${bytesText(total)}`),
  ].filter(Boolean);
  return machine(gpu.name, badge, facts, warnings, meters);
}

function machine(name, [tone, word], facts, warnings, meters = []) {
  return el(
    "li",
    { class: "machine" },
    el(
      "div",
      { class: "job-head" },
      el("h3", { class: "machine-name", text: name }),
      el("span", { class: "badge", "data-tone": tone, text: word }),
    ),
    el("p", { class: "job-facts", text: facts.filter(Boolean).join(" · ") }),
    ...meters,
    ...warnings.map((text) => el("p", { class: "machine-warning", text })),
  );
}

function meter(label, value, max, words) {
  const filled = el("span");
  filled.style.width = `${Math.max(0, Math.min(1, value / max)) * 100}%`;
  const range = { "aria-valuemin": 0, "aria-valuemax": max, "aria-valuenow": value, "aria-valuetext": words };
  return el(
    "div",
    { class: "meter" },
    el("span", { class: "meter-label", text: label }),
    el("div", { class: "gauge", role: "meter", "aria-label": label, ...range }, filled),
    el("span", { class: "meter-words", text: words }),
  );
}
