// A row of choices of which one holds: radio buttons.

import { h, newId } from '../dom.js';

/** `options` are [value, label, extra element]; `onChange` gets the value. */
export function choices(label, options, chosen, onChange) {
  const name = newId();
  return h('fieldset', { class: 'choices' }, h('legend', { class: 'unseen' }, label),
    options.map(([value, text, extra]) => h('label', null,
      h('input', { type: 'radio', name, value, checked: value === chosen, onchange: () => onChange(value) }), text, extra)));
}
