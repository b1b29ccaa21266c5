// The host of an MCP App, as its view sees it: JSON-RPC 2.0 over postMessage.
// Source: MCP Apps (io.modelcontextprotocol/ui), 2026-01-26, "Communication Protocol".

export const APPS_VERSION = "2026-01-26";

/** What the host, or the server behind it, answered instead of a result. */
export class HostError extends Error {
  constructor(message, { code = null, timedOut = false } = {}) {
    super(message);
    this.code = code;
    this.timedOut = timedOut;
  }
}

/**
 * `notified`: functions by notification method. `requested`: functions by request method; what they return is
 * the answer. Messages of anybody but the host are ignored.
 */
export function connectHost({ notified = {}, requested = {}, host = window.parent } = {}) {
  const waiting = new Map();
  let lastId = 0;

  const send = (message) => host.postMessage({ jsonrpc: "2.0", ...message }, "*");

  const settle = ({ id, result, error }) => {
    const pending = waiting.get(id);
    if (!pending) return;
    waiting.delete(id);
    clearTimeout(pending.timer);
    if (error) pending.reject(new HostError(String(error.message ?? "refused"), { code: error.code ?? null }));
    else pending.resolve(result ?? {});
  };

  const answer = async ({ id, method, params }) => {
    const handler = requested[method];
    if (!handler) {
      send({ id, error: { code: -32601, message: `Not known here: ${method}` } });
      return;
    }
    send({ id, result: (await handler(params ?? {})) ?? {} });
  };

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== host || message === null || typeof message !== "object" || message.jsonrpc !== "2.0") return;
    if (typeof message.method !== "string") settle(message);
    else if (message.id !== undefined && message.id !== null) answer(message);
    else notified[message.method]?.(message.params ?? {});
  });

  return {
    notify: (method, params = {}) => send({ method, params }),
    /** Rejects with a HostError: refused, failed, or not answered within `timeoutMs`. */
    request: (method, params = {}, { timeoutMs = 30_000 } = {}) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        const timer = setTimeout(() => {
          waiting.delete(id);
          reject(new HostError("The host did not answer in time.", { timedOut: true }));
        }, timeoutMs);
        waiting.set(id, { resolve, reject, timer });
        send({ id, method, params });
      }),
  };
}

/**
 * Tells the host how large the document is, now and whenever that changes. Returns a function that ends it.
 */
export function reportSize(host, element = document.body) {
  let sent = "";
  const report = () => {
    const size = {
      width: document.documentElement.scrollWidth,
      height: Math.ceil(element.getBoundingClientRect().height),
    };
    if (sent === `${size.width}x${size.height}`) return;
    sent = `${size.width}x${size.height}`;
    host.notify("ui/notifications/size-changed", size);
  };
  const observer = new ResizeObserver(report);
  observer.observe(element);
  report();
  return () => observer.disconnect();
}
