// Short messages about what was just done. The region is a live one, so screen
// readers read them, too.

import { h, icon } from '../dom.js';

const region = document.getElementById('toasts');
const shownFor = 6000;

export function announce(text, { kind = 'ok' } = {}) {
  const toast = h('p', { class: `toast ${kind}` }, icon(kind === 'ok' ? 'check' : 'warning'), h('span', null, text));
  region.append(toast);
  setTimeout(() => toast.remove(), kind === 'ok' ? shownFor : shownFor * 2);
}

export function announceProblem(problem) {
  if (problem.name === 'AbortError') return;
  announce(problem.message, { kind: 'bad' });
}
