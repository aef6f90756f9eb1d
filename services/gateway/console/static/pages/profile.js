// One's own second factor, recovery codes, password and devices.

import { get, post, remove } from '../api.js';
import { h, icon } from '../dom.js';
import { currentMe } from '../identity.js';
import { show } from '../navigation.js';
import { count, when } from '../time.js';
import { deviceList, deviceName } from '../components/device-list.js';
import { ask } from '../components/dialog.js';
import { field } from '../components/form.js';
import { initials } from '../components/initials.js';
import { mfaBadge, roleBadge } from '../components/mfa-words.js';
import { recoveryCodes } from '../components/recovery-codes.js';
import { fill } from '../components/states.js';
import { withFreshFactor } from '../components/step-up.js';
import { announce, announceProblem } from '../components/toast.js';

export default function profile({ signal }) {
  const me = currentMe();
  const devices = h('div', null);
  const renew = () => fill(devices, () => myDevices(renew, signal), signal);
  renew();
  return h('div', null,
    h('div', { class: 'person' }, initials(me.agent.displayName, 'large'), h('div', null, h('h1', null, me.agent.displayName), h('p', { class: 'soft' }, me.agent.email), h('div', { class: 'badges' }, roleBadge(me.agent), mfaBadge(me.agent)))),
    twoFactor(me),
    h('section', { class: 'card' }, h('div', { class: 'card-head' }, h('div', null, h('h2', null, 'Password'), h('p', { class: 'soft' }, 'A new password signs you out on your other devices.')), h('button', { type: 'button', onclick: changePassword }, 'Change password'))),
    h('section', { class: 'card' }, h('h2', null, 'Devices'), devices));
}

function twoFactor(me) {
  const factor = me.factors.find((one) => one.type === 'TOTP');
  if (!factor) {
    return h('section', { class: 'card' },
      h('div', { class: 'card-head' },
        h('div', null, h('h2', null, 'Two-factor authentication'),
          h('p', { class: 'soft' }, me.enforcement.enforced ? ['Your account requires it. Sessions without it end on ', when(me.enforcement.sessionRevokeTime), '.'] : 'Not set up. With it, nobody signs in as you with your password alone.')),
        h('a', { class: 'button primary', href: '/set-up' }, 'Set up')));
  }
  const few = me.recoveryCodesLeft <= 3;
  return h('section', { class: 'card' },
    h('h2', null, 'Two-factor authentication'),
    h('ul', { class: 'rows' },
      h('li', null, icon('phone'),
        h('div', { class: 'row-main' }, h('strong', null, 'Authenticator app'), h('p', null, 'Set up ', when(factor.createTime), ' · last used ', when(factor.lastUseTime, 'never'))),
        h('div', { class: 'row-end' }, h('a', { class: 'button', href: '/set-up' }, 'Replace'),
          !me.enforcement.enforced && h('button', { type: 'button', class: 'warns', onclick: () => removeFactor(factor) }, 'Remove'))),
      h('li', null, icon('shield'),
        h('div', { class: 'row-main' }, h('strong', null, 'Recovery codes'), h('p', null, `${count(me.recoveryCodesLeft, 'code')} left of 10`)),
        h('div', { class: 'row-end' }, few && h('span', { class: 'badge warn' }, icon('warning'), 'Few left'), h('button', { type: 'button', onclick: newCodes }, 'Make new codes')))),
    me.enforcement.enforced && h('p', { class: 'soft' }, 'Your account requires two-factor authentication, so it can be replaced, but not removed.'));
}

async function removeFactor(factor) {
  const done = await ask({
    title: 'Remove two-factor authentication?', danger: true, confirm: 'Remove', body: h('p', null, 'Your password alone signs you in then. Your recovery codes stop working, and your other devices are signed out. A mail tells you.'),
    submit: () => withFreshFactor(() => remove(`/v1/me/factors/${factor.name.split('/').at(-1)}`)),
  });
  if (done && done !== true) {
    announce('Two-factor authentication is removed.');
    show();
  }
}

async function newCodes() {
  let answer;
  try {
    answer = await withFreshFactor(() => post('/v1/me/recoveryCodes:regenerate'));
  } catch (problem) {
    return announceProblem(problem);
  }
  if (!answer) return undefined;
  await ask({
    title: 'Your new recovery codes', confirm: 'Done',
    body: (done) => {
      done.disabled = true;
      return [h('p', null, 'The earlier ones no longer work. These are shown once.'), recoveryCodes(answer.recoveryCodes, (saved) => { done.disabled = !saved; })];
    },
  });
  return show();
}

async function changePassword() {
  const current = field({ name: 'currentPassword', label: 'Current password', type: 'password', autocomplete: 'current-password', required: true });
  const next = field({ name: 'newPassword', label: 'New password', type: 'password', autocomplete: 'new-password', minlength: 8, maxlength: 1000, required: true, hint: 'At least 8 characters. Long is better than complicated.' });
  const done = await ask({
    title: 'Change your password', fields: [current, next], confirm: 'Change',
    at: { INVALID_CREDENTIALS: 'currentPassword', PASSWORD_UNACCEPTABLE: 'newPassword' },
    submit: async (values) => {
      try {
        return await withFreshFactor(() => post('/v1/me:changePassword', values));
      } catch (problem) {
        if (problem.reason === 'INVALID_CREDENTIALS') problem.message = 'This is not your current password.';
        throw problem;
      }
    },
  });
  if (done && done !== true) {
    announce('Your password is changed.');
    show();
  }
}

async function myDevices(renew, signal) {
  const { sessions } = await get('/v1/me/sessions?pageSize=100', signal);
  const end = async (session) => {
    try {
      await remove(`/v1/me/sessions/${session.name.split('/').at(-1)}`);
      announce(`${deviceName(session.client)} is signed out.`);
      renew();
    } catch (problem) {
      announceProblem(problem);
    }
  };
  const endOthers = async () => {
    const done = await ask({ title: 'Sign out on all other devices?', confirm: 'Sign out the others', body: h('p', null, 'You stay signed in here.'), submit: () => post('/v1/me/sessions:revokeOthers') });
    if (!done) return;
    announce(`${count(done.revoked, 'other device')} signed out.`);
    renew();
  };
  return [
    deviceList(sessions, (session) => !session.current && h('button', { type: 'button', 'aria-label': `Sign out ${deviceName(session.client)}`, onclick: () => end(session) }, 'Sign out')),
    sessions.length > 1 && h('div', { class: 'actions' }, h('button', { type: 'button', onclick: endOthers }, 'Sign out all others')),
  ];
}
