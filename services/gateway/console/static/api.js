// Calls the REST API with the browser's cookies. The header asks for cookies
// instead of tokens in bodies, and tells the gateway that our own page calls.

import { sentenceFor } from './problems.js';

/** Why a call failed: a reason for programs and a sentence for people. */
export class Problem extends Error {
  constructor({ reason, message, status = 0, fields = {}, retryAfter = 0, requestId = '' }) {
    super(sentenceFor(reason, message, retryAfter));
    Object.assign(this, { reason, status, fields, retryAfter, requestId });
  }
}

/** The reasons for which a session is over, or there is none. */
const sessionOver = new Set([
  'SESSION_ENDED_BY_MFA_POLICY', 'SESSION_REVOKED', 'SESSION_EXPIRED', 'SESSION_STORE_LOST', 'SESSION_UNKNOWN',
  'CREDENTIALS_MISSING', 'CREDENTIALS_MALFORMED',
]);

export const isSessionOver = (problem) => problem instanceof Problem && sessionOver.has(problem.reason);

const listeners = new Set();

/** Tells when a call finds the session over, whoever made it. */
export const onSessionOver = (listener) => listeners.add(listener);

// Calls that make, replace or end the session have the line for themselves: reads
// under way are given up and sent again afterwards: an answer about the session
// before would send a person away from the one after it.
const changesSession = (method, path) => method !== 'GET' && /^\/v1\/(me|signIn|signOut)\b/.test(path);
const changes = new Set();
let reads = new AbortController();

async function send(method, path, body, signal) {
  const headers = { 'Twofold-Session': 'cookie' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  try {
    return await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store', redirect: 'error' });
  } catch (cause) {
    if (cause.name === 'AbortError') throw cause;
    throw new Problem({ reason: 'GATEWAY_UNREACHABLE' });
  }
}

async function problemOf(response) {
  let status = {};
  try {
    status = await response.json();
  } catch { /* no answer of the API: a proxy's, perhaps */ }
  const details = status.details ?? [];
  const fields = {};
  for (const violation of details.flatMap((detail) => detail.fieldViolations ?? [])) {
    const name = violation.field.split('.').pop().replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    fields[name] ??= /^must/.test(violation.description) ? `This ${violation.description}.` : violation.description;
  }
  return new Problem({
    reason: details.find((detail) => detail.reason && detail.domain)?.reason ?? `HTTP_${response.status}`,
    message: status.message, status: response.status, fields,
    retryAfter: Number(response.headers.get('Retry-After') ?? 0),
    requestId: response.headers.get('Twofold-Request-Id') ?? '',
  });
}

async function attempt(method, path, body, signal, read) {
  const response = await send(method, path, body, signal);
  if (!response.ok) throw await problemOf(response);
  try {
    return await read(response);
  } catch (cause) {
    throw cause.name === 'AbortError' ? cause : new Problem({ reason: 'GATEWAY_UNREACHABLE' });
  }
}

function hear(problem) {
  if (isSessionOver(problem)) listeners.forEach((listener) => listener(problem));
  return problem;
}

async function change(method, path, body, signal, read) {
  reads.abort();
  reads = new AbortController();
  const answer = attempt(method, path, body, signal, read);
  changes.add(answer);
  try {
    return await answer;
  } catch (problem) {
    // Whoever signs out is content with a session that is over.
    throw path === '/v1/signOut' ? problem : hear(problem);
  } finally {
    changes.delete(answer);
  }
}

async function answerTo(method, path, body, signal, read) {
  if (changesSession(method, path)) return change(method, path, body, signal, read);
  for (;;) {
    while (changes.size) await Promise.allSettled(changes);
    signal?.throwIfAborted();
    const { signal: givenUp } = reads;
    try {
      const until = method === 'GET' ? AbortSignal.any([givenUp, ...(signal ? [signal] : [])]) : signal;
      return await attempt(method, path, body, until, read);
    } catch (problem) {
      if (!givenUp.aborted) throw hear(problem);
      if (method !== 'GET') throw problem;
    }
  }
}

const json = (response) => response.json();
const call = (method, path, body, signal) => answerTo(method, path, body, signal, json);

export const get = (path, signal) => call('GET', path, undefined, signal);
export const post = (path, body = {}, signal) => call('POST', path, body, signal);
export const patch = (path, body, signal) => call('PATCH', path, body, signal);
export const file = (path, signal) => answerTo('GET', path, undefined, signal, (response) => response.blob());
export const remove = (path, signal) => call('DELETE', path, undefined, signal);

/** Yields what a stream of the API sends, one JSON value a line. */
export async function* stream(path, signal) {
  const { body, givenUp } = await answerTo('GET', path, undefined, signal, (response) => ({ body: response.body, givenUp: reads.signal }));
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch {
      signal?.throwIfAborted();
      if (givenUp.aborted) return yield* stream(path, signal);
      throw new Problem({ reason: 'GATEWAY_UNREACHABLE' });
    }
    if (chunk.done) return undefined;
    const lines = (rest + chunk.value).split('\n');
    rest = lines.pop();
    for (const line of lines.filter((text) => text.trim())) {
      const { result, error } = JSON.parse(line);
      if (error) {
        const reason = error.details?.find((detail) => detail.reason)?.reason ?? 'INTERNAL';
        throw hear(new Problem({ reason, message: error.message }));
      }
      yield result;
    }
  }
}

/** Makes the query of a URL of what is not empty. */
export function query(parameters) {
  const filled = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== '');
  return filled.length ? `?${new URLSearchParams(filled)}` : '';
}
