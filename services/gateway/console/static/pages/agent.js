// One agent: how they stand to two-factor authentication, their devices, what they
// were told, and the reset.

import { get, patch, post, query as queryOf } from '../api.js';
import { h, icon } from '../dom.js';
import { accountName, currentMe, isOwner } from '../identity.js';
import { go, show } from '../navigation.js';
import { count, when } from '../time.js';
import { deviceList } from '../components/device-list.js';
import { ask } from '../components/dialog.js';
import { field } from '../components/form.js';
import { initials } from '../components/initials.js';
import { mfaBadge, roleBadge, roleNames, stateBadge } from '../components/mfa-words.js';
import { noticeList } from '../components/notice-list.js';
import { empty, fill } from '../components/states.js';
import { announce, announceProblem } from '../components/toast.js';
import { withFreshFactor } from '../components/step-up.js';

export default async function agentPage({ params, signal }) {
  const name = `${accountName()}/agents/${encodeURIComponent(params.id)}`;
  const agent = await get(`/v1/${name}`, signal);
  const devices = h('div', null);
  const told = h('div', null);
  const renewTold = () => fill(told, () => notices(agent, renewTold, signal), signal);
  fill(devices, () => sessions(agent, signal), signal);
  renewTold();
  return h('div', null,
    h('p', { class: 'crumb' }, h('a', { href: '/agents' }, 'All agents')),
    h('section', { class: 'card' },
      h('div', { class: 'person' }, initials(agent.displayName, 'large'),
        h('div', null, h('h1', null, agent.displayName), h('p', { class: 'soft' }, agent.email), h('div', { class: 'badges' }, roleBadge(agent), stateBadge(agent), mfaBadge(agent))),
        h('div', { class: 'actions' }, actionsOf(agent))),
      agent.mfaState === 'NOT_SET_UP' && h('div', { class: 'note warn' }, icon('warning'), h('div', null,
        h('strong', null, agent.mfaStatusMessage || 'Two-Factor Authentication not setup'), h('p', null, 'Since ', when(agent.mfaStateTime), '.'))),
      h('dl', { class: 'facts' },
        agent.mfaState === 'SET_UP' && [h('dt', null, 'Two-factor authentication'), h('dd', null, 'Set up since ', when(agent.mfaStateTime))],
        h('dt', null, 'Last sign-in'), h('dd', null, when(agent.lastSignInTime, 'Never')),
        h('dt', null, 'Added'), h('dd', null, when(agent.createTime)))),
    resetCard(agent),
    h('section', { class: 'card' }, h('h2', null, 'Devices'), devices),
    h('section', { class: 'card' }, h('h2', null, 'Notices'), told));
}

/** Does something to an agent, says so, and shows the page anew. */
async function act(done, doIt) {
  try {
    const result = await withFreshFactor(doIt);
    if (!result) return;
    announce(done);
    show();
  } catch (problem) {
    announceProblem(problem);
  }
}

const isMe = (agent) => agent.name === currentMe().agent.name;
const mayTouch = (agent) => agent.role !== 'OWNER' || isOwner();

function actionsOf(agent) {
  if (!mayTouch(agent)) return [];
  const path = `/v1/${agent.name}`;
  return [
    h('button', { type: 'button', onclick: () => edit(agent) }, 'Edit'),
    agent.state === 'INVITED' && h('button', { type: 'button', onclick: () => act('The invitation is on its way again.', () => post(`${path}:resendInvitation`)) }, 'Invite again'),
    agent.state === 'DEACTIVATED' && h('button', { type: 'button', onclick: () => act(`${agent.displayName} can sign in again.`, () => post(`${path}:reactivate`)) }, 'Reactivate'),
    agent.state !== 'DEACTIVATED' && !isMe(agent) && h('button', { type: 'button', class: 'warns', onclick: () => deactivate(agent) }, 'Deactivate'),
  ];
}

function resetCard(agent) {
  const why = isMe(agent) ? 'Nobody resets their own. Ask another admin, or replace your authenticator in your profile.'
    : !mayTouch(agent) && 'Only an owner resets an owner.';
  return h('section', { class: 'card' },
    h('div', { class: 'card-head' },
      h('div', null, h('h2', null, 'A lost phone'), h('p', { class: 'soft' }, why || 'A reset removes the authenticator and the recovery codes and signs the agent out everywhere. The agent is told by mail.')),
      h('button', { type: 'button', class: 'warns', disabled: Boolean(why), onclick: () => reset(agent) }, 'Reset Two-Factor Authentication')));
}

async function reset(agent) {
  const reason = field({ name: 'reason', label: 'Reason', hint: `${agent.displayName} reads it in the mail.`, control: h('textarea', { maxlength: 500, required: true }) });
  const done = await ask({
    title: `Reset two-factor authentication of ${agent.displayName}?`, danger: true, confirm: `Reset for ${agent.displayName}`,
    body: h('ul', { class: 'outlook' },
      h('li', null, 'The authenticator app and all recovery codes stop working.'),
      h('li', null, h('strong', null, agent.displayName), ` (${agent.email}) is signed out everywhere, at once.`),
      h('li', null, 'A mail tells who did it, when, and why.')),
    fields: [reason],
    submit: (values) => post(`/v1/${agent.name}:resetMfa`, { reason: values.reason.trim(), requestId: crypto.randomUUID() }),
  });
  if (!done) return;
  announce(`Two-factor authentication of ${agent.displayName} is reset.`);
  show();
}

async function deactivate(agent) {
  const done = await ask({
    title: `Deactivate ${agent.displayName}?`, danger: true, confirm: `Deactivate ${agent.displayName}`,
    body: h('p', null, 'Every session ends at once, and nobody signs in as this agent until you reactivate them.'),
    submit: () => post(`/v1/${agent.name}:deactivate`),
  });
  if (!done) return;
  announce(`${agent.displayName} is deactivated.`);
  show();
}

async function edit(agent) {
  const displayName = field({ name: 'displayName', label: 'Name', required: true, maxlength: 200, value: agent.displayName });
  const email = field({ name: 'email', label: 'Email address', type: 'email', required: true, value: agent.email });
  const roles = ['AGENT', 'ADMIN', ...(isOwner() ? ['OWNER'] : [])];
  const role = field({ name: 'role', label: 'Role', hint: isMe(agent) ? 'Nobody changes their own role.' : 'A new role signs the agent out.', control: h('select', { disabled: isMe(agent) }, roles.map((value) => h('option', { value, selected: value === agent.role }, roleNames[value]))) });
  const done = await ask({
    title: `Edit ${agent.displayName}`, fields: [displayName, email, role], confirm: 'Save', at: { EMAIL_TAKEN: 'email', EMAIL_INVALID: 'email' },
    submit: (values) => {
      const changed = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value.trim()]).filter(([key, value]) => value !== agent[key]));
      return Object.keys(changed).length ? patch(`/v1/${agent.name}`, { ...changed, etag: agent.etag }) : true;
    },
  });
  if (!done) return;
  announce('Saved.');
  if (isMe(agent) && done.role && done.role !== agent.role) go('/');
  else show();
}

async function sessions(agent, signal) {
  const { sessions: list, nextPageToken } = await get(`/v1/${agent.name}/sessions${queryOf({ pageSize: 20 })}`, signal);
  if (!list.length) return empty('Signed in nowhere');
  const endAll = async () => {
    const done = await ask({
      title: `Sign ${agent.displayName} out everywhere?`, danger: true, confirm: 'Sign out everywhere', body: h('p', null, nextPageToken ? 'All sessions end at once.' : `${count(list.length, 'session')} ${list.length === 1 ? 'ends' : 'end'} at once.`),
      submit: () => post(`/v1/${agent.name}/sessions:revokeAll`),
    });
    if (!done) return;
    announce(`${agent.displayName} is signed out everywhere.`);
    show();
  };
  return [deviceList(list), nextPageToken && h('p', { class: 'soft' }, 'There are more.'), h('div', { class: 'actions' }, h('button', { type: 'button', onclick: endAll }, 'Sign out everywhere'))];
}

async function notices(agent, renew, signal) {
  const { notices: list, nextPageToken } = await get(`/v1/${accountName()}/notices${queryOf({ pageSize: 10, filter: `agent=${agent.name}` })}`, signal);
  if (!list.length) return empty('No mails so far');
  return [noticeList(list, renew, { withAgent: false }), nextPageToken && h('p', { class: 'soft' }, `The newest ${list.length}.`)];
}
