// Recovery codes, shown once: to copy, to download, to print, and a tick that they
// are saved.

import { h } from '../dom.js';
import { accountTitle, currentMe } from '../identity.js';
import { saveFile } from './save-file.js';
import { announce } from './toast.js';
import { tick } from './form.js';

// Nobody is known once the session was ended elsewhere; the codes still hold.
const whose = () => (currentMe() ? `${currentMe().agent.email}, ${accountTitle()}` : '');

function asText(codes) {
  return `Twofold recovery codes (each works once)\n${whose()}\n\n${codes.join('\n')}\n`;
}

async function copy(codes) {
  try {
    await navigator.clipboard.writeText(codes.join('\n'));
    announce('Copied.');
  } catch {
    announce('This browser does not let us copy. Select the codes, or download them.', { kind: 'bad' });
  }
}

const download = (codes) => saveFile(new Blob([asText(codes)], { type: 'text/plain' }), 'twofold-recovery-codes.txt');

/** The codes and a tick; `onSaved` is told whether it is ticked. */
export function recoveryCodes(codes, onSaved) {
  const saved = tick({ name: 'saved', label: 'I have saved these codes in a safe place', onchange: () => onSaved(saved.input.checked) });
  return h('div', { class: 'recovery' },
    h('p', { class: 'soft small' }, whose()),
    h('ol', { class: 'codes', 'aria-label': 'Recovery codes' }, codes.map((code) => h('li', null, h('code', null, code)))),
    h('div', { class: 'actions no-print' },
      h('button', { type: 'button', onclick: () => copy(codes) }, 'Copy'),
      h('button', { type: 'button', onclick: () => download(codes) }, 'Download'),
      h('button', { type: 'button', onclick: () => print() }, 'Print')),
    h('div', { class: 'no-print' }, saved));
}
