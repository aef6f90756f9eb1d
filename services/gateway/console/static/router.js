// Moves between pages without loading the document again. A page is a function
// that returns what to show; it gets a signal that fires when it is left.

import { isSessionOver, onSessionOver, Problem } from './api.js';
import { isAdmin, memory, refreshMe } from './identity.js';
import { go, goToSignIn, leavePage, onNavigation } from './navigation.js';
import { routeOf } from './routes.js';
import { frame } from './components/frame.js';
import { adminsOnly, loading, notFound, troubled } from './components/states.js';

/** Shows the page of the address. */
async function show() {
  const signal = leavePage();
  const found = routeOf(location.pathname);
  const place = (content, focus = true) => !signal.aborted && frame(found?.route, content, { focus });
  const waiting = setTimeout(() => place(loading(), false), 250);
  try {
    if (!found) return place(notFound());
    const [page] = await Promise.all([
      import(`./pages/${found.route.page}.js`).catch(() => { throw new Problem({ reason: 'GATEWAY_UNREACHABLE' }); }),
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
  onNavigation(show);
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
