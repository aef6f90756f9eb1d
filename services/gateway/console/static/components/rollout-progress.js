// How far an enforcement has come, live. The stream begins with the state as it is,
// so a reload loses nothing; a lost connection is made again.

import { isSessionOver, stream } from '../api.js';
import { h, icon, newId } from '../dom.js';
import { count, inWords, number, when } from '../time.js';

const figure = (label, value) => h('div', { class: 'figure' }, h('dt', null, label), h('dd', null, value));

/** Follows the rollout of an account until `signal` fires. */
export function rolloutProgress(account, signal, onRollout) {
  const live = h('span', { class: 'live' }, 'Connecting…');
  const body = h('div', { class: 'stack' });
  const title = newId();
  const element = h('section', { class: 'card rollout', 'aria-labelledby': title, hidden: true },
    h('div', { class: 'card-head' }, h('h2', { id: title }, 'Rollout'), live), body);
  const countdown = h('strong', null);
  let revokeTime;
  const tick = () => {
    if (!revokeTime) return;
    const left = (Date.parse(revokeTime) - Date.now()) / 1000;
    countdown.textContent = left > 0 ? `in ${inWords(left)}` : 'now';
  };
  const clock = setInterval(tick, 1000);
  signal.addEventListener('abort', () => clearInterval(clock));
  const update = (rollout) => {
    element.hidden = !rollout.policy.enforced;
    revokeTime = rollout.sessionRevokeTime;
    const focused = body.contains(document.activeElement) && document.activeElement.getAttribute('href');
    if (rollout.policy.enforced) body.replaceChildren(...picture(rollout, countdown));
    if (focused) body.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
    tick();
    onRollout(rollout);
  };
  follow(account, signal, live, update);
  return element;
}

function picture(rollout, countdown) {
  const { notices } = rollout;
  const [total, enrolled] = [Number(rollout.agentsTotal), Number(rollout.agentsEnrolled)];
  const label = newId();
  const waiting = Number(notices.queued) + Number(notices.retrying);
  return [
    h('div', null,
      h('p', { id: label }, h('strong', null, `${number(enrolled)} of ${count(total, 'agent')}`), ' set up',
        enrolled < total && [' · ', h('a', { href: '/agents?mfa=NOT_SET_UP' }, `see who is missing`)]),
      h('progress', { class: 'bar', max: total || 1, value: enrolled, 'aria-labelledby': label })),
    h('dl', { class: 'figures' },
      figure('Mails sent', number(notices.sent)), figure('Waiting', number(waiting)),
      figure('Failed', number(Number(notices.failed) + Number(notices.unknown))), figure('Sessions ending', number(rollout.sessionsEnding))),
    Number(notices.retrying) > 0 && h('p', { class: 'note warn', role: 'status' }, icon('warning'), h('span', null,
      `The mail server does not take mails at the moment. Twofold keeps trying to send ${count(notices.retrying, 'mail')}. The date below stays; agents also see it on every page, and at their next sign-in.`)),
    Number(notices.failed) + Number(notices.unknown) > 0 && h('p', { class: 'note bad' }, icon('warning'), h('span', null,
      'Some mails did not arrive, or perhaps not. ', h('a', { href: '/notices?state=FAILED' }, 'See the notices'), ' to send them again.')),
    Date.parse(rollout.sessionRevokeTime) > Date.now()
      ? h('p', null, 'Sessions without a second factor end ', countdown, ', on ', when(rollout.sessionRevokeTime), '.')
      : h('p', null, 'Sessions without a second factor ended on ', when(rollout.sessionRevokeTime), '.'),
    h('p', { class: 'soft' }, 'Required since ', when(rollout.policy.enforceTime), '.'),
  ].filter(Boolean);
}

// A page that nobody sees does not ask again, so that its session can idle out.
const visible = () => document.visibilityState === 'visible'
  || new Promise((resolve) => { document.addEventListener('visibilitychange', resolve, { once: true }); });

async function follow(account, signal, live, update) {
  const say = (text, on) => {
    live.textContent = text;
    live.classList.toggle('on', on);
  };
  for (let failures = 0; !signal.aborted;) {
    await visible();
    try {
      for await (const { rollout } of stream(`/v1/${account}/rollout:watch`, signal)) {
        failures = 0;
        say('Live', true);
        update(rollout);
      }
    } catch (problem) {
      if (signal.aborted || isSessionOver(problem)) return;
      failures += 1;
      say('Connection lost, trying again…', false);
      await new Promise((resolve) => { setTimeout(resolve, Math.min(1000 * 2 ** failures, 15000)); });
    }
  }
}
