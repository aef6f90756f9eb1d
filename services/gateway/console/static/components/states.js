// What a page, or a part of one, shows while it waits, when there is nothing, and
// when something is wrong.

import { h, icon } from '../dom.js';
import { isSessionOver } from '../api.js';

export const loading = (what = 'Loading') => h('p', { class: 'state waiting', role: 'status' }, h('span', { class: 'spinner', 'aria-hidden': 'true' }), `${what}…`);

export function empty(title, text, ...actions) {
  return h('div', { class: 'state' }, h('p', { class: 'state-title' }, title), text && h('p', { class: 'soft' }, text), actions.length > 0 && h('p', { class: 'actions centered' }, actions));
}

/** Says what is wrong, and offers to try again. */
export function troubled(problem, again) {
  const unreachable = problem.reason === 'GATEWAY_UNREACHABLE';
  return h('div', { class: 'state', role: 'alert' },
    icon('warning'),
    h('h1', { class: 'state-title' }, unreachable ? 'Twofold cannot be reached' : 'This page cannot be shown'),
    h('p', { class: 'soft' }, unreachable ? 'Check your connection; nothing you entered is lost.' : problem.message ?? 'Something went wrong.'),
    problem.requestId && h('p', { class: 'soft small' }, 'Request ', h('code', null, problem.requestId)),
    h('p', { class: 'actions centered' }, h('button', { type: 'button', class: 'primary', onclick: again }, 'Try again')));
}

export const notFound = () => h('div', { class: 'state' },
  h('h1', { class: 'state-title' }, 'There is no such page'),
  h('p', { class: 'soft' }, 'The address may be mistyped, or what was here is gone.'),
  h('p', { class: 'actions centered' }, h('a', { class: 'button', href: '/' }, 'Go to the start')));

export const adminsOnly = () => h('div', { class: 'state' },
  h('h1', { class: 'state-title' }, 'This page is for admins'),
  h('p', { class: 'soft' }, 'Ask an admin of your account if you need something from here.'),
  h('p', { class: 'actions centered' }, h('a', { class: 'button', href: '/profile' }, 'Go to your profile')));

// The focus stays where it was, even if the button that had it is gone.
function put(part, ...content) {
  const focused = part.contains(document.activeElement);
  part.replaceChildren(...content);
  if (!focused) return;
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
}

/** Fills a part of a page with what a promise brings. What was there stays meanwhile, and pales. */
export async function fill(part, make, signal) {
  part.setAttribute('aria-busy', 'true');
  const waiting = part.childElementCount ? undefined : setTimeout(() => put(part, loading()), 150);
  try {
    const content = await make();
    if (!signal?.aborted) put(part, ...[content].flat().filter(Boolean));
  } catch (problem) {
    if (problem.name === 'AbortError' || signal?.aborted || isSessionOver(problem)) return;
    if (!problem.reason) console.error(problem);
    put(part, h('div', { class: 'state', role: 'alert' }, h('p', null, problem.message),
      h('button', { type: 'button', onclick: () => fill(part, make, signal) }, 'Try again')));
  } finally {
    clearTimeout(waiting);
    part.removeAttribute('aria-busy');
  }
}
