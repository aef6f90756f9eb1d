// The grace period: an amount and a unit.

import { h, icon } from '../dom.js';
import { secondsOf, unitSeconds, wholeUnits } from '../time.js';
import { field } from './form.js';

/** Fields for a duration of the API such as `604800s`. */
export function gracePeriod(duration) {
  const known = wholeUnits(secondsOf(duration));
  const amount = field({ name: 'amount', label: 'Amount', type: 'number', min: 0, max: 9999, step: 1, required: true, value: known.amount });
  const unit = field({ name: 'unit', label: 'Unit', control: h('select', null, Object.keys(unitSeconds).map((name) => h('option', { value: name, selected: name === known.unit }, `${name}s`))) });
  const error = h('p', { class: 'field-error', id: 'grace-error' });
  const element = h('fieldset', { class: 'grace', 'aria-describedby': 'grace-hint grace-error' },
    h('legend', { class: 'legend' }, 'Grace period'),
    h('p', { class: 'hint', id: 'grace-hint' }, 'How long sessions from before live on without a second factor. Whoever signs in anew sets it up at once.'),
    h('div', { class: 'grace-fields' }, amount, unit), error);
  return {
    element,
    input: amount.input,
    fieldName: 'gracePeriod',
    value: () => `${Number(amount.input.value) * unitSeconds[unit.input.value]}s`,
    set(value) {
      const { amount: a, unit: u } = wholeUnits(secondsOf(value));
      amount.input.value = a;
      unit.input.value = u;
    },
    setError(text) {
      amount.input[text ? 'setAttribute' : 'removeAttribute']('aria-invalid', 'true');
      error.replaceChildren(...(text ? [icon('warning'), text] : []));
    },
  };
}
