// The service as this page uses it: requests with the key in a header, and the stream of events.

const RESERVE = 0.2; // the part of the minute's requests that is kept for what a person does
const SPARE = 0.5; // the part of them that may go into live previews
const PATIENT_AT_ONCE = 3; // of the six connections that a browser opens to one host
const SILENT_MS = 90_000; // a stream without a message or heartbeat for this long is dead
const BACKOFF_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

/** Any answer that is no success, or none. `code` as in docs/http.md, or `unreachable`, `bad_answer`. */
export class Problem extends Error {
  constructor({ status = 0, code, message, nextStep = "", problems = [], warnings = [], missing = [], retryAfterMs = 0 }) {
    super(message);
    Object.assign(this, { status, code, nextStep, problems, warnings, missing, retryAfterMs });
  }
}

const unreachable = () =>
  new Problem({
    code: "unreachable",
    message: "The server does not answer.",
    nextStep: "Check that it runs.",
  });

export const isGone = (error) => error.status === 404;
export const isDenied = (error) => error.status === 401;

const wait = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** One visit with one key (null: none). `denied` is called once, when the service does not take the key. */
export class Api {
  #closing = new AbortController();
  #scarce = false;
  #left = 1; // the part of the minute's requests that is left
  #everyMs = 0;
  #patient = 0;
  #line = [];
  #freshAt = 0;
  #wakeUp = null;

  constructor(key, denied) {
    this.key = key;
    this.denied = denied;
  }

  get signal() {
    return this.#closing.signal;
  }

  /** Milliseconds between two requests for what nobody needs: they take the spare part of the rate limit. */
  get spareMs() {
    return this.#everyMs;
  }

  /** Whether there are requests to spare: what must stay fresh comes first. */
  get hasSpare() {
    return this.#left > 1 - SPARE || Date.now() >= this.#freshAt;
  }

  close() {
    this.#closing.abort();
  }

  /** JSON of a GET. `patient`: waits where the rate limit is nearly used up. */
  async get(path, { patient = false } = {}) {
    return (await this.#fetch(path, {}, patient)).json();
  }

  /** `body`: a file, a form, or what becomes JSON. */
  async send(method, path, body = null, headers = {}) {
    const options = { method, headers };
    if (body instanceof FormData) {
      options.body = body;
    } else if (body instanceof Blob) {
      options.headers = { ...headers, "Content-Type": "application/octet-stream" };
      options.body = body;
    } else if (body !== null) {
      options.headers = { ...headers, "Content-Type": "application/json" };
      options.body = JSON.stringify(body);
    }
    return (await this.#fetch(path, options, false)).json();
  }

  /** A POST that makes a workflow. No answer does not mean "not accepted": under one key it is one submit. */
  async submit(path, body) {
    const headers = { "Idempotency-Key": [...crypto.getRandomValues(new Uint32Array(4))].join("-") };
    try {
      return await this.send("POST", path, body, headers);
    } catch (error) {
      if (error.code !== "unreachable" || this.signal.aborted) throw error;
      return this.send("POST", path, body, headers);
    }
  }

  /** Bytes, for an address that <img> and the like can show: they can't send a key. */
  async blob(path, { patient = false } = {}) {
    return (await this.#fetch(path, {}, patient)).blob();
  }

  async #fetch(path, options, patient) {
    const response = await (patient ? this.#inLine(path, options) : this.#ask(path, options));
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (patient && problem.code === "rate_limited" && !this.signal.aborted) {
      await wait(problem.retryAfterMs, this.signal);
      return this.#fetch(path, options, patient);
    }
    if (isDenied(problem) && !this.signal.aborted) this.denied();
    throw problem;
  }

  /** A few at once, and none while the minute's requests run short. */
  async #inLine(path, options) {
    if (this.#patient >= PATIENT_AT_ONCE) await new Promise((resolve) => this.#line.push(resolve));
    else this.#patient += 1;
    try {
      while (this.#scarce && Date.now() < this.#freshAt && !this.signal.aborted) {
        await wait(this.#freshAt - Date.now(), this.signal);
      }
      return await this.#ask(path, options);
    } finally {
      const next = this.#line.shift();
      if (next) next();
      else this.#patient -= 1;
    }
  }

  async #ask(path, options) {
    const headers = { ...options.headers, ...(this.key === null ? {} : { "X-API-Key": this.key }) };
    let response;
    try {
      // Relative to the page, so that it works behind a proxy that adds a prefix.
      response = await fetch(path, { ...options, headers, signal: options.signal ?? this.signal });
    } catch {
      throw unreachable();
    }
    const left = response.headers.get("x-ratelimit-remaining");
    if (left !== null) {
      const limit = Number(response.headers.get("x-ratelimit-limit"));
      this.#left = Number(left) / limit;
      this.#scarce = this.#left < RESERVE;
      this.#everyMs = 60_000 / (SPARE * limit);
      this.#freshAt = Date.now() + 1_000 * Number(response.headers.get("x-ratelimit-reset"));
    }
    return response;
  }

  // -------------------------------------------------------------------------------------------- events

  /**
   * Follows all workflows until this visit is closed, and comes back by itself. `opened(again)`,
   * `lost(problem, retryAtMs)` and `received(message)` are called; retryNow() cuts a pause short.
   */
  async follow({ opened, lost, received }) {
    let place = null;
    let failures = 0;
    while (!this.signal.aborted) {
      let problem;
      try {
        const headers = place === null ? {} : { "Last-Event-ID": place };
        for await (const block of this.#blocks(headers, () => opened(place !== null))) {
          failures = 0;
          if (block.id !== null) place = block.id;
          if (block.data === null) continue;
          if (block.data.type !== "stream:closed") received(block.data);
          else if (block.data.code === "unauthenticated") return this.denied(); // the key has been revoked
        }
        problem = unreachable();
      } catch (error) {
        problem = error instanceof Problem ? error : unreachable();
      }
      if (this.signal.aborted || isDenied(problem)) return;
      const pause = Math.max(problem.retryAfterMs, BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)]);
      failures += 1;
      lost(problem, Date.now() + pause);
      await Promise.race([wait(pause, this.signal), new Promise((resolve) => (this.#wakeUp = resolve))]);
    }
  }

  retryNow() {
    this.#wakeUp?.();
  }

  async *#blocks(headers, opened) {
    const ending = new AbortController();
    const end = () => ending.abort();
    this.signal.addEventListener("abort", end, { once: true });
    let dog = setTimeout(end, SILENT_MS);
    try {
      const response = await this.#fetch("v1/comfyui/events", { headers, signal: ending.signal }, false);
      opened();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(dog);
        dog = setTimeout(end, SILENT_MS);
        text += value;
        const whole = text.split("\n\n");
        text = whole.pop();
        yield* whole.map(blockOf);
      }
    } finally {
      clearTimeout(dog);
      this.signal.removeEventListener("abort", end);
      end();
    }
  }
}

/** One block of a text/event-stream as this service writes them: one line each of `id` and `data`. */
function blockOf(text) {
  const block = { id: null, data: null };
  for (const line of text.split("\n")) {
    if (line.startsWith("id: ")) block.id = line.slice(4);
    if (line.startsWith("data: ")) block.data = JSON.parse(line.slice(6));
  }
  return block;
}

async function problemOf(response) {
  const retryAfterMs = 1_000 * (Number(response.headers.get("Retry-After")) || 0);
  let body;
  try {
    body = await response.json();
  } catch {
    body = {};
  }
  return new Problem({
    status: response.status,
    code: body.code ?? "bad_answer",
    message: body.message ?? `The service answered ${response.status}.`,
    nextStep: forPeople(body.nextStep ?? ""),
    problems: othersOf(body),
    warnings: Array.isArray(body.warnings) ? body.warnings : [],
    missing: missingOf(body),
    retryAfterMs,
  });
}

/** Which request lists the models is for programs. */
function forPeople(step) {
  return step.replace(/ that GET \S+ names/, " that the engine has");
}

const MISSING = new Set(["missing_node_type", "missing_subgraph"]);

/** The faults that no line of `missingOf` says. */
function othersOf({ problems = [], missingClasses = [], missingSubgraphs = [], missingModels = [] }) {
  const classes = missingClasses.length + missingSubgraphs.length > 0;
  const named = new Set(missingModels.flatMap((each) => each.inputs ?? []));
  const isSaid = ({ kind, nodeId, inputName }) =>
    kind === "value_not_in_list" ? named.has(`${nodeId} ${inputName}`) : classes && MISSING.has(kind);
  return Array.isArray(problems) ? problems.filter((each) => !isSaid(each)) : [];
}

/** What the engine, or the file, lacks: a line each. */
function missingOf({ missingClasses = [], missingSubgraphs = [], missingModels = [] }) {
  const nodes = (each) => `node${each.nodes.length > 1 ? "s" : ""} ${each.nodes.join(", ")}`;
  const line = (what, name, parts) => `${what} ${name} (${parts.filter(Boolean).join("; ")})`;
  const nearest = (each) => each.nearest.length > 0 && `nearest: ${each.nearest.join(", ")}`;
  return [
    ...missingClasses.map((each) =>
      line("Missing class", each.classType, [nodes(each), each.pack && `pack ${each.pack}`, nearest(each)]),
    ),
    ...missingSubgraphs.map((each) => line("Missing definition of subgraph", each.title, [nodes(each)])),
    ...missingModels.map((each) =>
      line("Missing model file", each.name, [
        nodes(each),
        each.folder && `folder ${each.folder}`,
        each.url && `from ${each.url}`,
        nearest(each),
      ]),
    ),
  ];
}
