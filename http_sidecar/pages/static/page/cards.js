// Lists of job cards: a card per job for as long as it is shown, moved between the lists as the job goes on.

import { jobCard, updateJobCard } from "./elements.js";

export class Cards {
  #cards = new Map();

  constructor(actions, thumbs) {
    Object.assign(this, { actions, thumbs });
  }

  /** Shows exactly these lists: `[container, jobs, words where there are none]`. Focus stays where it was. */
  show(lists) {
    const wanted = new Set(lists.flatMap(([, jobs]) => jobs.map((job) => job.workflowId)));
    const filled = lists.map(([container, jobs, empty]) => [
      container,
      jobs.map((job) => this.#card(job)),
      empty,
    ]);
    const focused = document.activeElement;
    for (const [container, cards, empty] of filled) reconcile(container, cards, empty);
    for (const [id, card] of this.#cards) {
      if (!wanted.has(id)) {
        card.remove();
        this.thumbs.forget(card);
        this.#cards.delete(id);
      }
    }
    keepFocus(focused, lists);
  }

  #card(job) {
    let card = this.#cards.get(job.workflowId);
    if (card) updateJobCard(card, job);
    else this.#cards.set(job.workflowId, (card = jobCard(job, { actions: this.actions })));
    this.thumbs.show(card, job);
    return card;
  }
}

function reconcile(container, cards, empty) {
  if (!cards.length) {
    if (container.dataset.empty === empty) return;
    const words = document.createElement("p");
    words.className = "empty";
    words.textContent = empty;
    container.replaceChildren(words);
    container.dataset.empty = empty;
    return;
  }
  if ("empty" in container.dataset) {
    delete container.dataset.empty;
    container.replaceChildren();
  }
  let place = container.firstElementChild;
  for (const card of cards) {
    if (card === place) place = place.nextElementSibling;
    else container.insertBefore(card, place);
  }
  const kept = new Set(cards);
  for (const child of [...container.children]) if (!kept.has(child)) child.remove();
}

/** An element that was moved has lost its focus; one that has gone leaves it to the list's heading. */
function keepFocus(focused, lists) {
  if (!focused || focused === document.body || focused === document.activeElement) return;
  if (focused.isConnected && !focused.hidden) focused.focus({ preventScroll: true });
  else if (focused.closest(".job"))
    document.getElementById(`${lists[0][0].id}-title`)?.focus({ preventScroll: true });
}
