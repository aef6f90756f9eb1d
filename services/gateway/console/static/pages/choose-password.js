// Chooses a password with the one-time link of a mail: a new one, or the first one
// with an invitation. The token stands behind the # of the link, which no server
// and no log sees; it is taken out of the address at once.

import { post } from '../api.js';
import { h } from '../dom.js';
import { memory } from '../identity.js';
import { field, form, submitButton } from '../components/form.js';

export default function choosePassword({ query, signal }) {
  const invited = location.pathname === '/accept-invitation';
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? query.get('token') ?? memory.read('link');
  const account = query.get('account');
  if (!token) {
    return h('div', null, h('h1', null, 'This link is incomplete'), h('p', null, 'Open the link of the mail once more, or copy it whole.'),
      h('div', { class: 'actions' }, h('a', { class: 'button', href: '/sign-in' }, 'Go to the sign-in')));
  }
  memory.keep('link', token); // for a reload
  signal.addEventListener('abort', () => memory.forget('link'));
  history.replaceState(null, '', location.pathname + (account ? `?account=${encodeURIComponent(account)}` : ''));
  const password = field({ name: 'password', label: 'New password', type: 'password', autocomplete: 'new-password', minlength: 8, maxlength: 1000, required: true, hint: 'At least 8 characters. Long is better than complicated.', autofocus: true });
  const page = h('div', null,
    h('h1', null, invited ? 'Welcome. Choose a password' : 'Choose a new password'),
    account && h('p', { class: 'soft' }, 'For your profile at ', h('strong', null, account), '.'),
    form({
      label: 'Choose a password', fields: [password], button: submitButton('Save the password', { class: 'primary wide' }),
      at: { PASSWORD_UNACCEPTABLE: 'password' },
      submit: async (values) => {
        await post(invited ? '/v1/signIn:acceptInvitation' : '/v1/signIn:resetPassword', { token, password: values.password });
        memory.forget('link');
        page.replaceChildren(h('h1', { tabindex: -1 }, 'Your password is saved'),
          h('p', null, invited ? 'Sign in with it now.' : 'You were signed out everywhere. Sign in with the new password now.'),
          h('div', { class: 'actions' }, h('a', { class: 'button primary', href: `/sign-in${account ? `?account=${encodeURIComponent(account)}` : ''}` }, 'Sign in')));
        page.querySelector('h1').focus();
      },
    }));
  return page;
}
