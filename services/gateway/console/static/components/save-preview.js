// What saving a policy would do, before it is done.

import { post } from '../api.js';
import { h, icon } from '../dom.js';
import { count, when } from '../time.js';
import { ask } from './dialog.js';

/** Asks whether to save. Resolves to what `save` returned, or undefined. */
export async function previewAndSave(account, policy, save, onTrouble) {
  const preview = await post(`/v1/${account}/rollout:preview`, { policy });
  if (preview.transition === 'TRANSITION_UNSPECIFIED') return save();
  if (!preview.allowed) return leadToSetUp();
  const { title, lines, confirm, danger } = words[preview.transition](preview);
  return ask({
    title, confirm, danger, body: h('ul', { class: 'outlook' }, lines.filter(Boolean).map((line) => h('li', null, line))),
    submit: async () => {
      try {
        return await save();
      } catch (problem) {
        if (problem.reason !== 'ETAG_MISMATCH') throw problem;
        onTrouble();
        return undefined;
      }
    },
  });
}

const words = {
  ENABLED: (preview) => ({
    title: 'Enforce two-factor authentication?',
    confirm: 'Enforce it',
    lines: [
      [h('strong', null, count(preview.agentsNotSetUp, 'agent')), ` of ${preview.agentsTotal} ${Number(preview.agentsNotSetUp) === 1 ? 'has' : 'have'} no second factor yet.`],
      [h('strong', null, count(preview.mails, 'mail')), Number(preview.mails) === 1 ? ' goes out, to that agent.' : ' go out, to those agents.'],
      [h('strong', null, 'Nobody is signed out now.'), ' Whoever signs in anew sets up a second factor first.'],
      [h('strong', null, count(preview.sessionsEnding, 'session')), ` without a second factor ${Number(preview.sessionsEnding) === 1 ? 'ends' : 'end'} on `, when(preview.policy.sessionRevokeTime), ', on every device.'],
    ],
  }),
  UPDATED: (preview) => ({
    title: 'Change the terms?',
    confirm: 'Save the change',
    danger: Date.parse(preview.policy.sessionRevokeTime) <= Date.now(),
    lines: [
      [h('strong', null, count(preview.sessionsEnding, 'session')), ` without a second factor ${Number(preview.sessionsEnding) === 1 ? 'ends' : 'end'} on `, when(preview.policy.sessionRevokeTime),
        Date.parse(preview.policy.sessionRevokeTime) <= Date.now() && ', which is over: they end now', '.'],
      Number(preview.mails) > 0 ? [h('strong', null, count(preview.mails, 'mail')), ' about the earlier date go out.'] : 'No mails go out.',
    ],
  }),
  DISABLED: (preview) => ({
    title: 'Stop enforcing two-factor authentication?',
    confirm: 'Stop enforcing',
    danger: true,
    lines: [
      'Sign-ins no longer ask for a set-up. Agents who have a second factor keep it, and are asked for it as before.',
      [h('strong', null, count(preview.sessionsEnding, 'session')), ' without a second factor will not be ended. Mails that wait are not sent.'],
      Number(preview.mails) > 0 && [h('strong', null, count(preview.mails, 'mail')), ' go out, to those who were told to set it up.'],
      'Enforcing it again later begins a new grace period.',
    ],
  }),
};

async function leadToSetUp() {
  await ask({
    title: 'Set up your own second factor first',
    body: [
      h('p', null, 'Whoever requires two-factor authentication of everybody needs it, too. Nothing is saved yet; your choice is kept until you are back.'),
      h('p', { class: 'note' }, icon('shield'), h('span', null, 'All you need is an authenticator app. It takes a minute.')),
      h('p', null, h('a', { class: 'button primary', href: '/set-up?next=/manage/security', onclick: (event) => event.target.closest('dialog').close() }, 'Set up now')),
    ],
    confirm: 'Later',
  });
  return undefined;
}
