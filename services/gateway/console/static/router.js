// Moves between pages without loading the document again. A page is a function
// that returns what to show; it gets a signal that fires when it is left.

import { isSessionOver, onSessionOver, Problem } from './api.js';
import { currentMe, isAdmin, memory, refreshMe } from './identity.js';
import { routeOf } from './routes.js';
import { frame } from './components/frame.js';
import { adminsOnly, loading, notFound, troubled } from './components/states.js';

let leave = new AbortController();

/** Goes to a page of the console. */
export function go(to, { replace = false } = {}) {
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  return show();
}

/** Goes to the sign-in page and remembers where the person wanted to be. */
export function goToSignIn(reason) {
  if (reason) memory.keep('ended', reason);
  const here = location.pathname + location.search;
  if (location.pathname === '/sign-in') return show();
  const account = new URLSearchParams(location.search).get('account');
  const next = new URLSearchParams({ ...(account && { account }), ...(here !== '/' && { next: here }) });
  return go(`/sign-in${next.size ? `?${next}` : ''}`, { replace: true });
}

/** Where to go after a sign-in: only ever to a page of our own. */
export function afterSignIn() {
  const next = new URL(new URLSearchParams(location.search).get('next') ?? memory.read('next') ?? '/', location.origin);
  const { route } = routeOf(next.pathname) ?? {};
  return next.origin === location.origin && route && (route.who !== 'anyone' || route.path === '/set-up') ? next.pathname + next.search : '/';
}

/** Ends the page that is shown, and what it asked of anybody. */
function leavePage() {
  leave.abort();
  leave = new AbortController();
  document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close());
  return leave.signal;
}

/** Shows something in place of the page, such as that it is being waited for. */
export function leaveFor(content) {
  leavePage();
  frame(undefined, content);
}

/** Shows the page of the address. */
export async function show() {
  const signal = leavePage();
  const found = routeOf(location.pathname);
  const place = (content, focus = true) => !signal.aborted && frame(found?.route, content, { focus });
  const waiting = setTimeout(() => place(loading(), false), 250);
  try {
    if (!found) return place(notFound());
    const [page] = await Promise.all([
      found.route.load().catch(() => { throw new Problem({ reason: 'GATEWAY_UNREACHABLE' }); }),
      found.route.who === 'anyone' ? undefined : refreshMe(),
    ]);
    if (signal.aborted) return undefined;
    if (found.route.who === 'admin' && !isAdmin()) return place(adminsOnly());
    const content = await page.default({ params: found.params, signal, query: new URLSearchParams(location.search) });
    if (content) place(content);
  } catch (problem) {
    if (problem.name === 'AbortError' || signal.aborted) return undefined;
    if (isSessionOver(problem)) return undefined; // onSessionOver has gone on
    if (!(problem instanceof Problem)) console.error(problem);
    place(problem.reason === 'RESOURCE_NOT_FOUND' ? notFound() : troubled(problem, show));
  } finally {
    clearTimeout(waiting);
  }
  return undefined;
}

// A set-up needs a session if a sign-in does not lead through it. Recovery codes are
// left alone: they are shown once.
function needsNoSession() {
  const { who, path } = routeOf(location.pathname)?.route ?? {};
  if (path === '/set-up') return memory.read('signIn')?.step === 'set-up' || Boolean(memory.read('codesShown'));
  return who === 'anyone';
}

/** Follows links and the browser's own buttons. */
export function start() {
  addEventListener('popstate', show);
  addEventListener('pageshow', (event) => event.persisted && show());
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href]');
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.target || link.hasAttribute('download') || link.origin !== location.origin || !routeOf(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  onSessionOver((problem) => {
    if (needsNoSession()) return;
    goToSignIn(problem.reason === 'CREDENTIALS_MISSING' ? undefined : problem.reason);
  });
  return show();
}

/** Whether somebody is signed in: asks once if nobody is known yet. */
export async function isSignedIn() {
  if (currentMe()) return true;
  try {
    await refreshMe();
    return true;
  } catch (problem) {
    if (isSessionOver(problem)) return false;
    throw problem;
  }
}
