// Asks Junebug's API. The token, if one was typed in here, is kept for this tab only, and sent as a header only.

const KEY = "junebug.token";
const TIMEOUT = 65000;
/** Where the API is: one above the console, whatever prefix a proxy gave it. */
const BASE = location.origin + location.pathname.replace(/console\/[^/]*$/, "");

export class ApiError extends Error {
  /** `status`: of HTTP, 0: nobody answered. `errors`: of the envelope, each with `type` and `message`, maybe `field`. */
  constructor(status, errors, description = "") {
    super(errors.map((each) => each.message).join("; ") || description || `HTTP ${status}`);
    this.status = status;
    this.errors = errors;
    this.type = errors[0]?.type ?? "";
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** Called with the ApiError of each 401: somebody has to sign in. */
export const unauthorized = {handler: () => {}};

/** `path`: as `channels/`, its parts encoded (`path` below). Returns the Response. Raises ApiError. */
export async function ask(method, path, {body, query, signal, headers = {}} = {}) {
  const url = new URL(BASE + path);
  for (const [name, value] of Object.entries(query ?? {})) if (value !== "" && value != null) url.searchParams.set(name, value);
  const sent = {Accept: "application/json", ...headers};
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (token.get()) sent.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(url, {method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store"});
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, [{type: "Offline", message: "Junebug does not answer"}]);
  }
  if (response.ok) return response;
  const envelope = await response.json().catch(() => ({}));
  const problem = new ApiError(response.status, envelope.result?.errors ?? [], envelope.description);
  if (response.status === 401) unauthorized.handler(problem);
  throw problem;
}

/** The envelope's result. */
async function call(method, path, options = {}) {
  const limit = AbortSignal.timeout(TIMEOUT);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  return (await (await ask(method, path, {...options, signal})).json()).result;
}

export const api = {
  get: (path, query, signal) => call("GET", path, {query, signal}),
  post: (path, body, query, signal) => call("POST", path, {body, query, signal}),
  patch: (path, body) => call("PATCH", path, {body}),
  delete: (path) => call("DELETE", path),
};

/** `path("channels", id, "logs")`: each part encoded. */
export const path = (...parts) => parts.map(encodeURIComponent).join("/");

/** The work of all items, at most six at a time; of one that failed there is null, unless everybody is refused. */
export async function each(items, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      try {
        results[index] = await work(items[index]);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status === 0 || error.status === 401 || error.status >= 500) throw error;
        results[index] = null;
      }
    }
  };
  await Promise.all(Array.from({length: 6}, worker));
  return results;
}
