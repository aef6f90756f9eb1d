// Goes through the pages of a list of the API, which only names the next one. The
// tokens of the pages before are kept while the list is shown.

import { h } from '../dom.js';
import { number } from '../time.js';

/** `load(token)` shows a page and resolves to {shown, total, next}. */
export function pager(size, load) {
  let tokens = [''];
  const text = h('p', { class: 'soft', role: 'status' });
  const move = (by) => async () => {
    tokens = by > 0 ? [...tokens, next] : tokens.slice(0, -1);
    await refresh();
    scrollTo({ top: 0 });
  };
  const back = h('button', { type: 'button', onclick: move(-1) }, 'Previous');
  const forward = h('button', { type: 'button', onclick: move(1) }, 'Next');
  const element = h('nav', { class: 'pager', 'aria-label': 'Pages', hidden: true }, text, h('div', { class: 'actions' }, back, forward));
  let next = '';
  async function refresh() {
    const page = await load(tokens.at(-1));
    if (!page) return;
    next = page.next;
    const [used, other] = document.activeElement === back ? [back, forward] : [forward, back];
    const focused = document.activeElement === used;
    back.disabled = tokens.length === 1;
    forward.disabled = !next;
    if (focused && used.disabled) other.focus({ preventScroll: true });
    element.hidden = tokens.length === 1 && !next;
    const first = (tokens.length - 1) * size + 1;
    text.textContent = `${number(first)}–${number(first + page.shown - 1)}${page.total === undefined ? '' : ` of ${number(page.total)}`}`;
  }
  return { element, refresh, restart: () => { tokens = ['']; return refresh(); } };
}
