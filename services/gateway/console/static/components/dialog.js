// Dialogs. The browser's own <dialog> keeps the focus inside, closes with Escape
// and gives the focus back.

import { h, newId } from '../dom.js';
import { form, submitButton } from './form.js';

/**
 * Opens a dialog with a form and resolves to what `submit` returns, or to undefined
 * when the person turns away. A dialog without `submit` only tells something. A `body`
 * that is a function gets the button: while that is disabled, Escape does not close.
 */
export function ask({ title, body, fields, confirm = 'OK', danger = false, cancel = 'Cancel', submit, at }) {
  return new Promise((resolve) => {
    const id = newId();
    let result;
    const button = submitButton(confirm, danger && { class: 'primary danger' });
    const dialog = h('dialog', { 'aria-labelledby': id }, h('h2', { id, tabindex: -1 }, title));
    const turnAway = submit && cancel && h('button', { type: 'button', onclick: () => dialog.close() }, cancel);
    dialog.append(form({
      fields, at, content: [h('div', { class: 'dialog-body' }, typeof body === 'function' ? body(button) : body), fields], button, actions: [turnAway],
      submit: async (values) => {
        result = submit ? (await submit(values)) ?? true : true;
        dialog.close();
      },
    }));
    // Browsers let a page refuse to be canceled only now and then, a key always.
    const stay = (event) => { if (button.disabled && (event.type === 'cancel' || event.key === 'Escape')) event.preventDefault(); };
    for (const type of ['cancel', 'keydown']) dialog.addEventListener(type, stay);
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    (fields?.[0]?.input ?? (danger ? turnAway : dialog.querySelector('h2'))).focus();
  });
}

/** Tells something that has to be read. */
export const tell = (title, body, confirm = 'OK') => ask({ title, body, confirm });
