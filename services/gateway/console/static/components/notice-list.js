// Notices: the mails Twofold wrote, and how far their delivery has come.

import { post } from '../api.js';
import { h } from '../dom.js';
import { count, when } from '../time.js';
import { announce, announceProblem } from './toast.js';

export const kindNames = {
  ENFORCEMENT_ENABLED: 'Two-factor authentication required', ENFORCEMENT_LIFTED: 'No longer required', MFA_RESET: 'Reset by an admin',
  FACTOR_ADDED: 'Second factor added', FACTOR_REMOVED: 'Second factor removed', RECOVERY_CODE_USED: 'Recovery code used',
  INVITATION: 'Invitation', PASSWORD_RESET: 'Link for a new password', PASSWORD_CHANGED: 'Password changed', EMAIL_CHANGED: 'Email address changed',
};

export const stateNames = {
  QUEUED: ['Waiting', ''], SENDING: ['Sending', ''], SENT: ['Sent', 'good'], RETRYING: ['Trying again', 'warn'],
  FAILED: ['Failed', 'bad'], UNKNOWN: ['Perhaps sent', 'warn'], SUPPRESSED: ['Not needed', ''],
};

const meanings = {
  UNKNOWN: 'The connection was cut while the mail server may have taken it. Send it again if it did not arrive.',
  SUPPRESSED: 'It was no longer called for: the agent had set it up, or the policy changed.',
};

async function resend(notice, renew) {
  try {
    await post(`/v1/${notice.name}:resend`);
    announce(`The mail to ${notice.email} is queued again.`);
    renew();
  } catch (problem) {
    announceProblem(problem);
  }
}

/** A table of notices. `renew` is called when one was sent again. */
export function noticeList(notices, renew, { withAgent = true } = {}) {
  return h('table', { class: 'table' },
    h('thead', null, h('tr', null, withAgent && h('th', { scope: 'col' }, 'To'), h('th', { scope: 'col' }, 'About'), h('th', { scope: 'col' }, 'State'), h('th', { scope: 'col' }, 'When'))),
    h('tbody', null, notices.map((notice) => {
      const [name, tone] = stateNames[notice.state] ?? [notice.state, ''];
      return h('tr', null,
        withAgent && h('td', null, h('a', { href: `/agents/${notice.agent.split('/').at(-1)}` }, notice.displayName || notice.email), h('p', null, notice.email)),
        h('td', null, kindNames[notice.kind] ?? notice.kind),
        h('td', { class: 'mark' }, h('span', { class: `badge ${tone}` }, name),
          notice.state === 'RETRYING' && notice.nextAttemptTime && h('p', null, Number(notice.failedAttempts) > 0 && `${count(notice.failedAttempts, 'failed attempt')} · `, 'next attempt ', when(notice.nextAttemptTime)),
          meanings[notice.state] && h('p', null, meanings[notice.state]),
          ['FAILED', 'RETRYING', 'UNKNOWN'].includes(notice.state) && notice.lastError && h('p', null, notice.lastError),
          ['FAILED', 'UNKNOWN'].includes(notice.state) && h('button', { type: 'button', onclick: () => resend(notice, renew) }, 'Send again')),
        h('td', { class: 'soft' }, when(notice.updateTime)));
    })));
}
