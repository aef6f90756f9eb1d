// Sign in with account, email address and password.

import { isSessionOver, post } from '../api.js';
import { h, icon } from '../dom.js';
import { memory, refreshMe } from '../identity.js';
import { endings } from '../problems.js';
import { go } from '../navigation.js';
import { field, form, submitButton, tick } from '../components/form.js';
import { follow, signInUnderWay } from '../sign-in-state.js';

/** Why the person is here, if a session was ended; or true if they need not be. */
async function reasonToBeHere() {
  try {
    await refreshMe();
    return true;
  } catch (problem) {
    if (!isSessionOver(problem)) throw problem;
    if (endings[problem.reason] && !memory.read('ended')) memory.keep('ended', problem.reason);
    return endings[memory.read('ended')];
  }
}

export default async function signIn({ query }) {
  const ended = await reasonToBeHere();
  if (ended === true) return void go('/', { replace: true });
  const begun = signInUnderWay();
  const known = memory.read('who') ?? {};
  const account = field({ name: 'account', label: 'Account', autocomplete: 'organization', autocapitalize: 'none', spellcheck: 'false', required: true, value: query.get('account') ?? known.account ?? '' });
  const email = field({ name: 'email', label: 'Email address', type: 'email', autocomplete: 'username', required: true, value: known.email ?? '' });
  const password = field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'current-password', required: true });
  const keep = tick({ name: 'keep', label: 'Keep me logged in for 30 days' });
  const first = [account, email, password].find((one) => !one.input.value);
  first.input.setAttribute('autofocus', '');
  return h('div', null,
    h('h1', null, 'Sign in'),
    begun && h('div', { class: 'note', role: 'status' }, icon('info'), h('div', null,
      h('p', null, 'You have begun to sign in to ', h('strong', null, begun.account), ' as ', h('strong', null, begun.email), '.'),
      h('div', { class: 'actions' }, h('a', { class: 'button', href: begun.place }, 'Go on')))),
    ended && !begun && h('div', { class: 'note warn', role: 'status' }, icon('warning'), h('div', null, h('strong', null, ended.title), h('p', null, ended.text))),
    form({
      label: 'Sign in', fields: [account, email, password], content: [account, email, password, keep],
      button: submitButton('Sign in', { class: 'primary wide' }),
      submit: async (values) => {
        const who = { account: values.account.trim(), email: values.email.trim() };
        const answer = await post('/v1/signIn', { ...who, password: values.password, client: 'WEB', keepMeLoggedIn: keep.input.checked });
        memory.keep('who', who);
        await follow(answer, who.account, who.email);
      },
    }),
    h('p', { class: 'beneath' }, h('a', { href: '/forgot-password' }, 'Forgot your password?')));
}
