// Asks for a mail with a link to choose a new password.

import { post } from '../api.js';
import { h } from '../dom.js';
import { memory } from '../identity.js';
import { field, form, submitButton } from '../components/form.js';

export default function forgotPassword() {
  const known = memory.read('who') ?? {};
  const account = field({ name: 'account', label: 'Account', autocomplete: 'organization', autocapitalize: 'none', spellcheck: 'false', required: true, value: known.account ?? '' });
  const email = field({ name: 'email', label: 'Email address', type: 'email', autocomplete: 'username', required: true, value: known.email ?? '' });
  const page = h('div', null,
    h('h1', null, 'Choose a new password'),
    h('p', { class: 'soft' }, 'We send you a link. Your two-factor authentication stays as it is.'),
    form({
      label: 'Choose a new password', fields: [account, email], button: submitButton('Send the link', { class: 'primary wide' }),
      submit: async (values) => {
        await post('/v1/signIn:requestPasswordReset', { account: values.account.trim(), email: values.email.trim() });
        // The same words for everybody: they do not tell who has a profile here.
        page.replaceChildren(h('h1', { tabindex: -1 }, 'Look into your mails'),
          h('p', null, 'If ', h('strong', null, values.email.trim()), ' signs in to this account with a password, a mail with a link is on its way.'),
          h('div', { class: 'actions' }, h('a', { class: 'button', href: '/sign-in' }, 'Back to the sign-in')));
        page.querySelector('h1').focus();
      },
    }),
    h('p', { class: 'beneath' }, h('a', { href: '/sign-in' }, 'Back to the sign-in')));
  return page;
}
