// What saving a policy would do, before it is done.

import { post } from '../api.js';
import { h, icon } from '../dom.js';
import { go } from '../navigation.js';
import { count, number, when } from '../time.js';
import { ask } from './dialog.js';

/** Asks whether to save. Resolves to what `save` returned, or undefined. */
export async function previewAndSave(account, policy, signal, save, onTrouble) {
  const preview = await post(`/v1/${account}/rollout:preview`, { policy }, signal);
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

const mails = ({ mails: n }, to) => (Number(n) ? [h('strong', null, count(n, 'mail')), Number(n) === 1 ? ' goes out, ' : ' go out, ', to, '.'] : 'No mails go out.');

function missing({ agentsNotSetUp: n, agentsTotal }) {
  if (!Number(n)) return 'Every agent has a second factor already.';
  return [h('strong', null, count(n, 'agent')), ` of ${number(agentsTotal)} ${Number(n) === 1 ? 'has' : 'have'} no second factor yet.`];
}

function ending({ sessionsEnding: n, policy: { sessionRevokeTime: at } }, rest) {
  if (!Number(n)) return ['No session is without a second factor now. Such sessions end on ', when(at), '.'];
  return [h('strong', null, count(n, 'session')), ` without a second factor ${Number(n) === 1 ? 'ends' : 'end'} on `, when(at), rest, '.'];
}

const words = {
  ENABLED: (preview) => ({
    title: 'Enforce two-factor authentication?',
    confirm: 'Enforce it',
    lines: [
      missing(preview),
      mails(preview, Number(preview.mails) === 1 ? 'to that agent' : 'to those agents'),
      [h('strong', null, 'Nobody is signed out now.'), ' Whoever signs in anew sets up a second factor first.'],
      ending(preview, ', on every device'),
    ],
  }),
  UPDATED(preview) {
    const over = Date.parse(preview.policy.sessionRevokeTime) <= Date.now();
    return {
      title: 'Change the terms?',
      confirm: 'Save the change',
      danger: over,
      lines: [ending(preview, over && ', which is over: they end now'), mails(preview, 'about the earlier date')],
    };
  },
  DISABLED: (preview) => ({
    title: 'Stop enforcing two-factor authentication?',
    confirm: 'Stop enforcing',
    danger: true,
    lines: [
      'Sign-ins no longer ask for a set-up. Agents who have a second factor keep it, and are asked for it as before.',
      Number(preview.sessionsEnding) > 0 && [h('strong', null, count(preview.sessionsEnding, 'session')), ` without a second factor ${Number(preview.sessionsEnding) === 1 ? 'goes' : 'go'} on.`],
      ['Mails that wait are not sent. ', mails(preview, 'to those who were told to set it up')],
      'Enforcing it again later begins a new grace period.',
    ],
  }),
};

async function leadToSetUp() {
  const now = await ask({
    title: 'Set up your own second factor first',
    body: [
      h('p', null, 'Whoever requires two-factor authentication of everybody needs it, too. Nothing is saved yet; your choice is kept until you are back.'),
      h('p', { class: 'note' }, icon('shield'), h('span', null, 'All you need is an authenticator app. It takes a minute.')),
    ],
    confirm: 'Set up now', cancel: 'Later', submit: () => true,
  });
  if (now) go('/set-up?next=/manage/security');
}
