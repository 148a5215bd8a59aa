// The server's own interface (see /docs): plain answers, and answers that come as events.
import { ask } from "./dom.js";
import { has, t } from "./texts.js";

export class Refusal extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// What a code of the server means to a person, where another one means the same.
const SAME = { queue_full: "busy", key_busy: "busy", image_too_large: "too_large", store_failed: "store_full", store_damaged: "not_found" };

/** A refusal of the server, whose sentences are English: the usual ones are in every language, others get an opening. */
function refusal({ message, code }, status) {
  const name = `error_${SAME[code] ?? code}`;
  return new Refusal(t(has(name) ? name : "server_said", { message }), status, code);
}

function headers(extra = {}) {
  const key = sessionStorage.getItem("ledits-key");
  return key ? { ...extra, authorization: `Bearer ${key}` } : extra;
}

function packed(body) {
  if (body === undefined || body instanceof FormData) return { body };
  return { body: JSON.stringify(body), type: { "content-type": "application/json" } };
}

// Until the models are loaded there is nobody to ask.
let begun;
const loaded = new Promise((resolve) => { begun = resolve; });
export const begin = () => begun();

async function request(method, path, content, { signal, accept } = {}) {
  const { body, type } = packed(content);
  if (path.startsWith("/v1/")) await loaded;
  let answer;
  try {
    answer = await fetch(path, { method, body, signal, headers: headers({ ...type, ...(accept && { accept }) }) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(t("unreachable"), 0, "unreachable");
  }
  if (answer.status === 401) {
    const key = await ask(t("key_title"), t("key_where"), t("use_key"), t("cancel"), true);
    if (key) {
      sessionStorage.setItem("ledits-key", key);
      return request(method, path, content, { signal, accept });
    }
  }
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    throw error ? refusal(error, answer.status) : new Refusal(t("answered", { status: answer.status }), answer.status);
  }
  return answer;
}

export const get = async (path) => (await request("GET", path)).json();
export const blob = async (path) => (await request("GET", path)).blob();
export const post = async (path, body) => (await request("POST", path, body)).json();

/** Events of an answer as [name, data]; raises Refusal for an `error` event. Aborting `signal` cancels the job. */
export async function* events(path, body, signal) {
  const answer = await request("POST", path, body, { signal, accept: "text/event-stream" });
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (!name || !data) continue;
      const parsed = JSON.parse(data);
      if (name === "error") throw refusal(parsed.error, parsed.error.type === "server_error" ? 500 : 400);
      yield [name, parsed];
    }
  }
}
