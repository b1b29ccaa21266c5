// Submitting files: dropped anywhere on the page, or chosen.

import { notice } from "./notices.js";
import { shortId } from "./elements.js";

const MAX_FILES = 20;

/** Ends with the visit. `submitted(workflowId)` after each that was accepted. */
export function acceptFiles(api, submitted) {
  const [drop, choose, files, priority] = ["drop", "choose", "files", "priority"].map((id) =>
    document.getElementById(id),
  );
  const { signal } = api;
  let depth = 0; // dragenter and dragleave come for every element on the way
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    drop.classList.toggle("over", depth > 0);
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const take = async (list) => {
    for (const file of [...list].slice(0, MAX_FILES)) await submitFile(api, file, priority.value, submitted);
    if (list.length > MAX_FILES) notice("bad", `Only the first ${MAX_FILES} files were submitted.`);
  };
  choose.addEventListener("click", () => files.click(), { signal });
  files.addEventListener(
    "change",
    async () => {
      await take(files.files);
      files.value = ""; // the same file again is a change, too
    },
    { signal },
  );
  document.addEventListener("dragenter", (event) => carriesFiles(event) && mark(+1), { signal });
  document.addEventListener("dragleave", (event) => carriesFiles(event) && mark(-1), { signal });
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault(), { signal });
  document.addEventListener(
    "drop",
    (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      mark(-depth);
      take(event.dataTransfer.files);
    },
    { signal },
  );
}

async function submitFile(api, file, priority, submitted) {
  try {
    // As it is: the service finds the workflow in it, whatever the kind of the file.
    const answer = await api.submit(`v1/comfyui/workflow?priority=${priority}`, file);
    const warned = answer.warnings.length ? { message: "", code: "warning", warnings: answer.warnings } : null;
    notice("good", `${file.name}: submitted as ${shortId(answer.workflowId)}`, warned);
    submitted(answer.workflowId);
  } catch (error) {
    if (!api.signal.aborted) notice("bad", `${file.name} was not submitted`, error);
  }
}
