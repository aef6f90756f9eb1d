// A person's initials in a round field of a color of their own.

import { h } from '../dom.js';

const hues = 6;

export function initials(name, size = '') {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 && words.at(-1)].filter(Boolean).map((word) => [...word][0].toUpperCase()).join('');
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return h('span', { class: `initials ${size} hue-${sum % hues}`, 'aria-hidden': 'true' }, letters || '?');
}
