// Sets up two-factor authentication in three steps: scan, type a code, save the
// recovery codes. It serves a sign-in that requires it and the profile alike; they
// differ in the calls they make.
//
// The steps have addresses, so that the back button moves between them; the picture
// stays the same meanwhile. A reload loses it, for the secret is kept nowhere.

import { post } from '../api.js';
import { h, icon } from '../dom.js';
import { currentMe, memory, refreshMe } from '../identity.js';
import { afterSignIn, go, goToSignIn, isSignedIn } from '../navigation.js';
import { when } from '../time.js';
import { codeField, form, submitButton } from '../components/form.js';
import { tell } from '../components/dialog.js';
import { recoveryCodes } from '../components/recovery-codes.js';
import { withFreshFactor } from '../components/step-up.js';
import { announce } from '../components/toast.js';
import { forgetSignIn, giveUp, signInState, startAgain } from '../sign-in-state.js';

// The set-up under way: {key, enrollment, done}.
let current = null;

const warnOfCodes = (event) => { if (memory.read('codesShown')) event.preventDefault(); };

/** The two doors. Each begins and confirms; a set-up lasts as long as its key. */
const bySignIn = (state) => ({
  who: `${state.account} ${state.email}`,
  key: () => `sign-in ${state.expireTime}`,
  forced: state,
  begin: () => post('/v1/signIn:beginEnrollment'),
  confirm: (body) => post('/v1/signIn:confirmEnrollment', body),
});

const byProfile = (me) => ({
  who: me.agent.name,
  key: () => `session ${currentMe().session.name}`, // a step-up replaces it
  me,
  begin: () => withFreshFactor(() => post('/v1/me/factors:beginEnrollment')),
  confirm: (body) => post('/v1/me/factors:confirmEnrollment', body),
});

export default async function setUp({ query }) {
  if (query.get('next')) memory.keep('next', query.get('next'));
  if (current?.done && !memory.read('codesShown')) current = null; // they signed out, or somebody signed in
  if (current?.done) return page(savingCodes());
  const state = signInState();
  let door;
  if (state?.step === 'set-up') {
    door = bySignIn(state);
  } else {
    if (!(await isSignedIn())) return void goToSignIn(memory.read('ended'));
    door = byProfile(currentMe());
    if (memory.read('codesShown')) return page(codesAreGone());
  }
  try {
    const voided = await ensureEnrollment(door);
    if (!current) return void go('/profile', { replace: true }); // turned away from the step-up
    return page(location.hash === '#code' ? typing(door) : scanning(door, voided));
  } catch (problem) {
    if (problem.reason !== 'SIGN_IN_EXPIRED') throw problem;
    return void startAgain();
  }
}

/** Begins a set-up unless one is under way. Tells whether an earlier picture is void. */
async function ensureEnrollment(door) {
  if (current?.key === door.key() && Date.parse(current.enrollment.expireTime) > Date.now()) return current.voided;
  current = null;
  const enrollment = await door.begin();
  if (!enrollment) return false;
  const voided = memory.read('setUpBegun') === door.who;
  memory.keep('setUpBegun', door.who);
  current = { key: door.key(), enrollment, voided };
  if (location.hash) history.replaceState(null, '', '/set-up');
  return voided;
}

const steps = ['Scan', 'Type the code', 'Save recovery codes'];

function page({ step, title, content }) {
  return h('div', { class: 'set-up' },
    step !== undefined && h('ol', { class: 'steps no-print', 'aria-label': 'Steps' }, steps.map((name, i) => h('li', { class: i < step && 'done', 'aria-current': i === step && 'step' }, h('span', { class: 'step-number', 'aria-hidden': 'true' }, i < step ? icon('check') : i + 1), h('span', { class: 'step-name' }, name)))),
    h('h1', null, title), content);
}

function explanation({ forced, me }) {
  if (forced) {
    return h('div', { class: 'note' }, icon('shield'), h('div', null,
      h('strong', null, 'Your account requires it'),
      h('p', null, 'The admins of ', h('strong', null, forced.accountDisplayName || forced.account), ' require two-factor authentication of everybody in this account',
        forced.enforceTime && [', since ', when(forced.enforceTime)], '. You set it up once, now; then you are signed in.')));
  }
  const ends = me.session.policyRevokeTime;
  if (ends) return h('p', { class: 'note' }, icon('shield'), h('span', null, 'Your account requires two-factor authentication. Set it up before ', when(ends), ' and you stay signed in here. Your other devices sign in again.'));
  if (me.agent.mfaState === 'SET_UP') return h('p', { class: 'note' }, icon('info'), h('span', null, 'Your earlier authenticator and recovery codes go on working until you finish here. Then only the new ones do, and your other devices sign in again.'));
  return h('p', { class: 'soft' }, 'From then on nobody signs in as you with your password alone. Your other devices sign in again.');
}

function scanning(door, voided) {
  const { enrollment } = current;
  const secret = enrollment.secret.replace(/(.{4})(?=.)/g, '$1 ');
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(enrollment.secret);
      announce('Copied.');
    } catch {
      announce('This browser does not let us copy. Type the key instead.', { kind: 'bad' });
    }
  };
  return {
    step: 0, title: 'Set up two-factor authentication',
    content: [
      explanation(door),
      voided && h('p', { class: 'note warn', role: 'status' }, icon('warning'), h('span', null, 'This page was loaded again or took too long, so there is a new picture. The earlier one is void: if you scanned it, delete that entry in your app and scan this one.')),
      h('div', { class: 'scan' },
        h('img', { class: 'qr', src: `data:image/png;base64,${enrollment.qrPng}`, alt: 'QR code for your authenticator app', width: 208, height: 208 }),
        h('div', null,
          h('p', null, 'Open an authenticator app on your phone and scan this picture with it.'),
          h('details', { class: 'help' }, h('summary', null, 'You cannot scan it?'),
            h('p', null, 'Type this key into the app, as a time-based one:'),
            h('p', null, h('code', { class: 'secret' }, secret)),
            h('div', { class: 'actions' }, h('button', { type: 'button', onclick: copy }, 'Copy the key'), h('a', { class: 'button', href: enrollment.otpauthUri }, 'Open in an app here'))))),
      h('div', { class: 'actions' }, h('button', { type: 'button', class: 'primary', onclick: () => go('/set-up#code') }, 'Next'), leaving(door)),
    ],
  };
}

const leaving = ({ forced }) => (forced
  ? h('button', { type: 'button', class: 'quiet', onclick: giveUp }, 'Cancel')
  : h('a', { class: 'button quiet', href: '/profile' }, 'Not now'));

function typing(door) {
  const code = codeField({ hint: 'Your app shows it now and a new one every 30 seconds', autofocus: true });
  return {
    step: 1, title: 'Type the code from your app',
    content: form({
      label: 'Code', fields: [code], button: submitButton('Confirm'),
      actions: [h('button', { type: 'button', onclick: () => history.back() }, 'Back')],
      at: { CODE_INCORRECT: 'code', TOTP_CODE_MALFORMED: 'code' },
      submit: (values) => confirm(door, values.code),
    }),
  };
}

async function confirm(door, code) {
  let done;
  try {
    done = await door.confirm({ enrollmentId: current.enrollment.enrollmentId, code });
  } catch (problem) {
    if (problem.reason === 'SIGN_IN_EXPIRED' || problem.reason === 'AGENT_VERSION_STALE') return startAgain();
    if (problem.reason !== 'ENROLLMENT_EXPIRED') throw problem;
    current = null;
    return go('/set-up', { replace: true });
  }
  const next = afterSignIn();
  current = { done, next: next.startsWith('/set-up') ? '/' : next };
  forgetSignIn();
  memory.forget('setUpBegun');
  memory.forget('ended');
  memory.keep('codesShown', true);
  addEventListener('beforeunload', warnOfCodes);
  await refreshMe();
  return go('/set-up#codes', { replace: true });
}

function savingCodes() {
  const finish = h('button', { type: 'button', class: 'primary', disabled: true, onclick: () => finished() }, 'Finish');
  return {
    step: 2, title: 'Save your recovery codes',
    content: [
      h('p', null, 'Each of these codes signs you in once if you lose your phone. They are not shown again.'),
      recoveryCodes(current.done.recoveryCodes, (saved) => { finish.disabled = !saved; }),
      h('div', { class: 'actions no-print' }, finish),
    ],
  };
}

async function finished() {
  const { done, next } = current;
  current = null;
  memory.forget('codesShown');
  memory.forget('next');
  removeEventListener('beforeunload', warnOfCodes);
  await tell(done.confirmation.title, h('div', { class: 'done' }, icon('check'), h('p', null,
    done.confirmation.code === 'MFA_SETUP_COMPLETE' ? 'From now on you sign in with your password and a code from your authenticator app.' : done.confirmation.message)), 'Continue');
  return go(next, { replace: true });
}

function codesAreGone() {
  memory.forget('codesShown');
  return {
    title: 'Two-factor authentication is set up',
    content: [
      h('p', { class: 'note warn' }, icon('warning'), h('span', null, 'Your recovery codes were shown once, before this page was loaded again. If you did not save them, make new ones in your profile.')),
      h('div', { class: 'actions' }, h('a', { class: 'button primary', href: '/profile' }, 'Go to your profile')),
    ],
  };
}

