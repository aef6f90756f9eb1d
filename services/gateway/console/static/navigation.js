// Where the console goes. Pages and components say it here; the router listens, and
// shows the page of the address.

import { isSessionOver } from './api.js';
import { currentMe, memory, refreshMe } from './identity.js';
import { routeOf } from './routes.js';

let leave = new AbortController();
let router;

/** Whom to tell that the page of the address is to be shown. */
export const onNavigation = (listener) => { router = listener; };

/** Shows the page of the address. */
export const show = () => router();

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
  const wanted = new URLSearchParams(location.search).get('next') ?? memory.read('next') ?? '/';
  if (!URL.canParse(wanted, location.origin)) return '/';
  const next = new URL(wanted, location.origin);
  const { route } = routeOf(next.pathname) ?? {};
  return next.origin === location.origin && route && (route.who !== 'anyone' || route.path === '/set-up') ? next.pathname + next.search : '/';
}

/** Ends the page that is shown, and what it asked of anybody. Returns the next one's signal. */
export function leavePage() {
  leave.abort();
  leave = new AbortController();
  document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close());
  return leave.signal;
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
