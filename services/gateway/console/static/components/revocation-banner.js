// Tells an agent that the policy will end this session, and leads to the set-up.

import { h, icon } from '../dom.js';
import { when } from '../time.js';

/** The banner, or null when the session stays. */
export function revocationBanner(me) {
  const ends = me.session.policyRevokeTime;
  if (!ends || location.pathname === '/set-up') return null;
  return h('section', { class: 'banner warn', 'aria-label': 'Your session will end' },
    icon('warning'),
    h('p', null, 'Your account requires two-factor authentication. This session ends on ', h('strong', null, when(ends)),
      '. Set it up before then and you stay signed in.'),
    h('a', { class: 'button', href: '/set-up' }, 'Set up now'));
}
