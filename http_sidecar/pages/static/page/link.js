// The word in the header on how the page stands with the service.

/** `tone`: good, busy, warn or bad. */
export function showLink(tone, text) {
  const link = document.getElementById("link");
  link.dataset.tone = tone;
  if (link.textContent !== text) link.textContent = text;
}
