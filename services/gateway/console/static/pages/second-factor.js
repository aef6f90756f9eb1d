// The second step of a sign-in: a code of the authenticator app, or a recovery code.

import { post } from '../api.js';
import { h } from '../dom.js';
import { go } from '../navigation.js';
import { codeField, field, form, submitButton } from '../components/form.js';
import { arrive, giveUp, signInState, startAgain } from '../sign-in-state.js';

async function verify(answer) {
  try {
    await post('/v1/signIn:verify', answer);
  } catch (problem) {
    if (problem.reason !== 'SIGN_IN_EXPIRED' && problem.reason !== 'AGENT_VERSION_STALE') throw problem;
    return startAgain();
  }
  return arrive();
}

function byApp() {
  const code = codeField({ autofocus: true });
  return form({
    label: 'Code from your app', fields: [code], button: submitButton('Continue', { class: 'primary wide' }),
    at: { CODE_INCORRECT: 'code', TOTP_CODE_MALFORMED: 'code' },
    submit: (values) => verify({ totpCode: values.code }),
  });
}

function byRecoveryCode() {
  const code = field({ name: 'recoveryCode', label: 'Recovery code', hint: 'One of the ten you saved at the set-up. Each works once.', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', required: true, autofocus: true });
  return form({
    label: 'Recovery code', fields: [code], button: submitButton('Continue', { class: 'primary wide' }),
    at: { CODE_INCORRECT: 'recoveryCode', RECOVERY_CODE_MALFORMED: 'recoveryCode' },
    submit: (values) => verify({ recoveryCode: values.recoveryCode.trim() }),
  });
}

export default function secondFactor() {
  const state = signInState();
  if (state?.step !== 'code') return void go('/sign-in', { replace: true });
  const place = h('div', null, byApp());
  const other = h('button', { type: 'button', class: 'link', onclick: () => swap() }, 'Use a recovery code instead');
  let app = true;
  const swap = () => {
    app = !app;
    place.replaceChildren(app ? byApp() : byRecoveryCode());
    other.textContent = app ? 'Use a recovery code instead' : 'Use a code from your app instead';
    place.querySelector('input').focus();
  };
  return h('div', null,
    h('h1', null, 'Two-factor authentication'),
    h('p', { class: 'soft' }, 'Signing in to ', h('strong', null, state.account), ' as ', h('strong', null, state.email), '.'),
    place,
    h('p', { class: 'beneath' }, (state.methods ?? ['RECOVERY_CODE']).includes('RECOVERY_CODE') && other, h('button', { type: 'button', class: 'link', onclick: giveUp }, 'Sign in as somebody else')),
    h('details', { class: 'help' }, h('summary', null, 'Lost both?'), h('p', null, 'Ask an admin of your account to reset your two-factor authentication. You are told by mail, and set it up anew when you sign in.')));
}
