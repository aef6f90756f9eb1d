// Sessions, as the devices they are on.

import { h, icon } from '../dom.js';
import { when } from '../time.js';

const browsers = [['Edg', 'Edge'], ['OPR', 'Opera'], ['Firefox', 'Firefox'], ['Chrome', 'Chrome'], ['Safari', 'Safari'], ['curl', 'curl']];
const systems = [['iPhone', 'iPhone'], ['iPad', 'iPad'], ['Android', 'Android'], ['Windows', 'Windows'], ['Mac OS', 'Mac'], ['Linux', 'Linux']];
const kinds = { WEB: 'Browser', MOBILE: 'Mobile app', DESKTOP: 'Desktop app' };

/** What people call the device that a client says it is. */
export function deviceName({ kind, userAgent = '' } = {}) {
  const find = (known) => known.find(([mark]) => userAgent.includes(mark))?.[1];
  const [browser, system] = [find(browsers), find(systems)];
  if (browser && system) return `${browser} on ${system}`;
  return browser ?? system ?? kinds[kind] ?? 'Unknown device';
}

/** A row for each session; `act` may make a button for one. */
export function deviceList(sessions, act) {
  return h('ul', { class: 'rows' }, sessions.map((session) => h('li', null,
    icon(session.client?.kind === 'MOBILE' ? 'phone' : 'device'),
    h('div', { class: 'row-main' },
      h('strong', null, deviceName(session.client)),
      h('p', null, session.client?.address && `${session.client.address} · `, 'signed in ', when(session.createTime), ' · last seen ', when(session.lastSeenTime)),
      session.policyRevokeTime && h('p', { class: 'ends' }, 'Ends on ', when(session.policyRevokeTime), ': no second factor')),
    h('div', { class: 'row-end' },
      session.current && h('span', { class: 'badge accent' }, 'This device'),
      h('span', { class: `badge ${session.assuranceLevel === 'AAL2' ? 'good' : ''}` }, session.assuranceLevel === 'AAL2' ? 'Two factors' : 'Password only'),
      act?.(session)))));
}
