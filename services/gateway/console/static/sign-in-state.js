// Where a sign-in stands between its steps, so that a reload and the back button
// find their way. What carries the sign-in itself is a cookie that only the gateway
// reads.

import { memory } from './identity.js';
import { afterSignIn, go } from './navigation.js';

/** `{step: 'code' | 'set-up', account, email, prompt, methods, expireTime}`, or null. */
export const signInState = () => memory.read('signIn');

const place = ({ step }) => (step === 'code' ? '/sign-in/code' : '/set-up');

/** Where a sign-in under way goes on, if there is one: `{account, email, place}`. */
export function signInUnderWay() {
  const state = signInState();
  return state && Date.parse(state.expireTime) > Date.now() ? { ...state, place: place(state) } : null;
}

export const forgetSignIn = () => memory.forget('signIn');

/** Goes where the answer of POST /v1/signIn leads. */
export function follow(answer, account, email) {
  const next = afterSignIn();
  memory.forget('ended');
  memory.forget('codesShown'); // somebody else's, perhaps
  if (answer.session) return arrive(next, { mayStillSetUp: true });
  memory.keep('next', next);
  const step = answer.challenge ? 'code' : 'set-up';
  memory.keep('signIn', { step, account, email, ...(answer.challenge ?? answer.enrollmentRequired) });
  return go(place({ step }));
}

/** The sign-in is done. Who gave a second factor has one to set up no more. */
export function arrive(next = afterSignIn(), { mayStillSetUp = false } = {}) {
  forgetSignIn();
  memory.forget('next');
  memory.forget('ended');
  return go(next.startsWith('/set-up') && !mayStillSetUp ? '/' : next, { replace: true });
}

/** Gives the sign-in up, for another one. */
export function giveUp() {
  forgetSignIn();
  return go('/sign-in');
}

/** The sign-in is over before it was done: says so and starts again. */
export function startAgain(reason = 'SIGN_IN_EXPIRED') {
  const account = signInState()?.account;
  forgetSignIn();
  memory.keep('ended', reason);
  return go(`/sign-in${account ? `?account=${encodeURIComponent(account)}` : ''}`, { replace: true });
}
