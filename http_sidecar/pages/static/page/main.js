// The page: asks for a key where one is needed, and opens a visit with it.

import { showLink } from "./link.js";
import { Visit } from "./visit.js";

const KEY = "comfy-bridge-key"; // in this tab's session storage

const $ = (id) => document.getElementById(id);

let visit = null;

/** Opens the board, with the key of this tab if there is one. */
function start() {
  visit?.close();
  const opened = new Visit(sessionStorage.getItem(KEY), (why) => opened === visit && askForKey(why));
  visit = opened;
  visit.open();
}

function askForKey(why) {
  visit?.close();
  sessionStorage.removeItem(KEY);
  document.title = "comfy-mcp-bridge";
  $("board").hidden = $("totals").hidden = $("forget").hidden = $("banner").hidden = true;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  $("notices").replaceChildren();
  $("key").hidden = false;
  showLink("warn", "Needs a key");
  const input = $("key-input");
  input.value = "";
  input.setAttribute("aria-invalid", String(Boolean(why)));
  $("key-error").textContent = why;
  input.focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key-input").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    askForKey("A key can't contain these characters.");
    return;
  }
  sessionStorage.setItem(KEY, key);
  start();
});
$("forget").addEventListener("click", () => askForKey(""));

start();
