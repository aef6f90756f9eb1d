// What audit events say, in words. What is new to the page is shown as it is.

import { inWords, instant, secondsOf } from '../time.js';
import { kindNames } from './notice-list.js';

const actions = {
  'account.create': 'Made the account', 'agent.create': 'Added an agent', 'agent.import': 'Imported agents', 'agent.update': 'Changed an agent',
  'agent.deactivate': 'Deactivated an agent', 'agent.reactivate': 'Reactivated an agent', 'agent.resendInvitation': 'Invited again',
  'agent.resetMfa': 'Reset two-factor authentication', 'agent.revokeSessions': 'Signed an agent out',
  'agent.linkSso': 'Linked an identity provider', 'password.change': 'Changed a password',
  'factor.enroll': 'Set up two-factor authentication', 'factor.remove': 'Removed two-factor authentication', 'factor.verify': 'Gave a code',
  'recoveryCodes.regenerate': 'Made new recovery codes', 'recoveryCode.use': 'Used a recovery code',
  'mfaPolicy.create': 'Made the policy', 'mfaPolicy.update': 'Changed the policy', 'notice.resend': 'Sent a mail again',
};

export const actionWords = (action) => actions[action] ?? action;

// Ids tell people nothing, and what follows from the rest is said by the action.
const untold = new Set(['factor', 'owner', 'type', 'revision', 'transition', 'hadFactor', 'last', 'agent', 'time']);

const name = (key) => key.replace(/([A-Z])/g, ' $1').toLowerCase().replace('mfa', 'two-factor').replace(/^previous (.*)/, '$1 before');

function worded(value) {
  if (value === 'true') return 'yes';
  if (value === 'false') return 'no';
  if (/^\d+s$/.test(value)) return inWords(secondsOf(value));
  if (/^\d{4}-\d\d-\d\dT/.test(value)) return instant(value);
  return kindNames[value] ?? value;
}

/** `enforced: yes · grace period: 7 days`. */
export const detailWords = (details = {}) => Object.entries(details)
  .filter(([key, value]) => value && !untold.has(key) && !(key === 'replaced' && value === 'false'))
  .map(([key, value]) => `${name(key)}: ${worded(value)}`).join(' · ');
