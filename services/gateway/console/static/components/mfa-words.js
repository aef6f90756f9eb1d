// How agents stand to two-factor authentication, and what they may do, in words.

import { h, icon } from '../dom.js';

export const roleNames = { AGENT: 'Agent', ADMIN: 'Admin', OWNER: 'Owner' };
export const stateNames = { INVITED: 'Invited', ACTIVE: 'Active', DEACTIVATED: 'Deactivated' };

/** The badge of an agent's second factor. */
export function mfaBadge(agent) {
  if (agent.mfaState === 'SET_UP') return h('span', { class: 'badge good' }, icon('check'), 'Two-factor set up');
  if (agent.mfaState === 'MANAGED_BY_SSO') return h('span', { class: 'badge' }, 'Left to your identity provider');
  return h('span', { class: 'badge warn' }, icon('warning'), 'Two-factor not set up');
}

export const roleBadge = (agent) => h('span', { class: `badge ${agent.role === 'AGENT' ? '' : 'accent'}` }, roleNames[agent.role]);

export const stateBadge = (agent) => agent.state !== 'ACTIVE' && h('span', { class: `badge ${agent.state === 'DEACTIVATED' ? 'bad' : ''}` }, stateNames[agent.state]);
