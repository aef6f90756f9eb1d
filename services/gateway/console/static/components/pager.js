// Goes through the pages of a list of the API, which only names the next one. The
// tokens of the pages before are kept with the address: whoever comes back to the list,
// or loads it again, is where they were.

import { h } from '../dom.js';
import { number } from '../time.js';

/** `load(token)` shows a page and resolves to {shown, total, next}. */
export function pager(size, load) {
  let tokens = history.state?.tokens ?? [''];
  const text = h('p', { class: 'soft', role: 'status' });
  let moving = false;
  const move = (by) => async () => {
    if (moving) return; // a second click, before the first one's answer
    moving = true;
    tokens = by > 0 ? [...tokens, next] : tokens.slice(0, -1);
    history.replaceState({ tokens }, '');
    await refresh();
    moving = false;
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
  return { element, refresh, restart: () => { tokens = ['']; history.replaceState(null, ''); return refresh(); } };
}
