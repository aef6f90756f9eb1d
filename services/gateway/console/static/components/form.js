// Fields with their labels, hints and errors, and forms that send once at a time.

import { h, icon, newId } from '../dom.js';
import { isSessionOver } from '../api.js';

/** A labeled field. `control` replaces the <input>. */
export function field({ name, label, hint, control, ...attributes }) {
  const id = newId();
  const input = control ?? h('input', { type: 'text', ...attributes });
  input.id = id;
  input.name = name;
  const error = h('p', { class: 'field-error', id: `${id}-error` });
  const described = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(' ');
  input.setAttribute('aria-describedby', described);
  const element = h('div', { class: 'field' },
    h('label', { for: id }, label), hint && h('p', { class: 'hint', id: `${id}-hint` }, hint), input, error);
  element.input = input;
  element.fieldName = name;
  element.setError = (text) => {
    error.replaceChildren(...(text ? [icon('warning'), text] : []));
    input[text ? 'setAttribute' : 'removeAttribute']('aria-invalid', 'true');
  };
  input.addEventListener('input', () => element.setError(''));
  return element;
}

/**
 * The field for a code of an authenticator app: digits, however they are pasted. It
 * has no maxlength, which would cut off the digits of a whole sentence first.
 */
export function codeField({ label = 'Six-digit code', hint = 'From your authenticator app', ...attributes } = {}) {
  const made = field({ name: 'code', label, hint, inputmode: 'numeric', autocomplete: 'one-time-code', class: 'code-input', required: true, spellcheck: 'false', ...attributes });
  made.input.addEventListener('input', () => {
    const digits = made.input.value.replace(/\D/g, '').slice(0, 6);
    if (digits !== made.input.value) made.input.value = digits;
  });
  return made;
}

/** A tick with its label. */
export function tick({ name, label, ...attributes }) {
  const id = newId();
  const input = h('input', { type: 'checkbox', id, name, ...attributes });
  const element = h('div', { class: 'tick' }, input, h('label', { for: id }, label));
  element.input = input;
  return element;
}

/** A switch: a tick that looks like what it does. */
export function toggle({ name, label, hint, ...attributes }) {
  const id = newId();
  const input = h('input', { type: 'checkbox', role: 'switch', id, name, 'aria-describedby': hint && `${id}-hint`, ...attributes });
  const element = h('div', { class: 'toggle' }, h('div', null, h('label', { for: id }, label), hint && h('p', { class: 'hint', id: `${id}-hint` }, hint)), input);
  element.input = input;
  return element;
}

const missing = (input) => {
  if (input.validity.valueMissing) return 'Please fill this in.';
  if (input.validity.typeMismatch && input.type === 'email') return 'This is not an email address.';
  if (input.validity.tooShort) return `Use at least ${input.minLength} characters.`;
  return input.validationMessage;
};

/**
 * A form whose errors stand beside their fields. `submit` is called with its values;
 * `at` names the field where a problem belongs that names none, by its reason.
 */
export function form({ fields = [], content = fields, button, actions = [], submit, at = {}, label }) {
  const trouble = h('div', { class: 'trouble', role: 'alert' });
  const element = h('form', { novalidate: true, 'aria-label': label }, content, trouble, h('div', { class: 'actions' }, button, actions));
  const complain = (problem) => {
    trouble.replaceChildren();
    let first;
    for (const one of fields) {
      const text = at[problem.reason] === one.fieldName ? problem.message : problem.fields?.[one.fieldName];
      if (!text) continue;
      one.setError(text);
      first ??= one.input;
    }
    // A problem of the whole is said here; one of a field is read from here, too.
    if (first) first.select?.();
    trouble.append(first ? h('span', { class: 'unseen' }, first.closest('.field').querySelector('.field-error').textContent) : h('p', { class: 'note bad' }, icon('warning'), h('span', null, problem.message)));
    (first ?? button).focus();
  };
  element.complain = complain;
  element.addEventListener('input', () => trouble.replaceChildren());
  element.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (element.hasAttribute('aria-busy')) return;
    trouble.replaceChildren();
    const wrong = fields.filter((one) => { const bad = !one.input.checkValidity?.() && one.input.willValidate; one.setError(bad ? missing(one.input) : ''); return bad; });
    if (wrong.length) {
      wrong[0].input.focus();
      return;
    }
    element.setAttribute('aria-busy', 'true');
    button.classList.add('busy');
    try {
      await submit(Object.fromEntries(fields.map((one) => [one.fieldName, one.input.value])));
    } catch (problem) {
      if (problem.name === 'AbortError') return;
      if (!problem.reason) console.error(problem);
      if (!isSessionOver(problem)) complain(problem);
    } finally {
      element.removeAttribute('aria-busy');
      button.classList.remove('busy');
    }
  });
  return element;
}

export const submitButton = (text, attributes) => h('button', { type: 'submit', class: 'primary', ...attributes }, text);
