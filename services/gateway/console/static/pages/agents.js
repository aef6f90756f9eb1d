// Everybody in the account, as tiles. Who has not set up two-factor authentication
// has a warning symbol.

import { get, post, query as queryOf } from '../api.js';
import { h, icon, unseen } from '../dom.js';
import { accountName, isOwner } from '../identity.js';
import { count, number } from '../time.js';
import { choices } from '../components/choices.js';
import { ask } from '../components/dialog.js';
import { field } from '../components/form.js';
import { initials } from '../components/initials.js';
import { roleNames, stateNames } from '../components/mfa-words.js';
import { pager } from '../components/pager.js';
import { empty, fill } from '../components/states.js';
import { announce } from '../components/toast.js';

const pageSize = 60;
const filters = { '': 'All', NOT_SET_UP: 'Not set up', SET_UP: 'Set up' };

function tile(agent) {
  const id = agent.name.split('/').at(-1);
  const missing = agent.mfaState === 'NOT_SET_UP';
  return h('li', null, h('a', { class: 'tile', href: `/agents/${id}`, title: `${agent.displayName}\n${agent.email}` },
    initials(agent.displayName),
    h('span', { class: 'tile-text' },
      h('strong', null, agent.displayName),
      h('span', { class: 'soft' }, roleNames[agent.role], agent.state !== 'ACTIVE' && ` · ${stateNames[agent.state]}`)),
    missing && h('span', { class: 'tile-warning', title: 'Two-Factor Authentication not setup' }, icon('warning'), unseen('Two-Factor Authentication not setup'))));
}

export default function agents({ query, signal }) {
  const account = accountName();
  const path = `/v1/${account}/agents`;
  let mfa = query.get('mfa') in filters ? query.get('mfa') : '';
  let text = query.get('q') ?? '';

  const counts = Object.fromEntries(Object.keys(filters).map((name) => [name, h('span', { class: 'badge' }, '…')]));
  const list = h('div', { class: 'stack' });
  const found = h('p', { class: 'unseen', role: 'status' });
  const filterOf = (name) => (name ? `mfaState=${name}` : '');
  const pages = pager(pageSize, async (token) => {
    let page;
    await fill(list, async () => {
      page = await get(path + queryOf({ pageSize, filter: filterOf(mfa), query: text, pageToken: token }), signal);
      return page.agents.length ? h('ul', { class: 'tiles' }, page.agents.map(tile)) : nobody();
    }, signal);
    if (page) found.textContent = count(page.totalSize, 'agent');
    return page && { shown: page.agents.length, total: page.totalSize, next: page.nextPageToken };
  });

  const nobody = () => {
    if (text) return empty('Nobody by that name', `No agent matches “${text}”${mfa ? ' with this filter' : ''}.`);
    if (mfa === 'NOT_SET_UP') return empty('Everybody has set it up', 'No agent is without two-factor authentication.');
    if (mfa === 'SET_UP') return empty('Nobody yet', 'No agent has set up two-factor authentication.');
    return empty('No agents yet', 'Add the first one, or import a list.');
  };
  const countAll = () => Object.keys(filters).forEach(async (name) => {
    try {
      counts[name].textContent = number((await get(path + queryOf({ pageSize: 1, filter: filterOf(name), query: text }), signal)).totalSize);
    } catch { /* the list says what is wrong */ }
  });
  const renew = () => {
    history.replaceState(null, '', `/agents${queryOf({ mfa, q: text })}`);
    countAll();
    return pages.restart();
  };

  let typing;
  const search = h('input', { type: 'search', 'aria-label': 'Search agents by name or email address', placeholder: 'Name or email address', value: text, maxlength: 200 });
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => { text = search.value.trim(); renew(); }, 250);
  });
  signal.addEventListener('abort', () => clearTimeout(typing));

  countAll();
  pages.refresh();
  return h('div', null,
    h('div', { class: 'page-head' }, h('h1', null, 'Agents'), h('div', { class: 'actions' },
      h('a', { class: 'button', href: '/agents/import' }, 'Import'),
      h('button', { type: 'button', class: 'primary', onclick: async () => { if (await add(path)) renew(); } }, 'Add an agent'))),
    h('div', { class: 'tools' },
      choices('Show', Object.entries(filters).map(([name, label]) => [name, label, counts[name]]), mfa, (chosen) => { mfa = chosen; renew(); }),
      h('div', { class: 'search', role: 'search' }, icon('search'), search)),
    found, list, pages.element);
}

/** Asks whom to add. */
function add(path) {
  const roles = ['AGENT', 'ADMIN', ...(isOwner() ? ['OWNER'] : [])];
  const name = field({ name: 'displayName', label: 'Name', autocomplete: 'off', required: true, maxlength: 200 });
  const email = field({ name: 'email', label: 'Email address', type: 'email', autocomplete: 'off', required: true });
  const role = field({ name: 'role', label: 'Role', control: h('select', null, roles.map((value) => h('option', { value }, roleNames[value]))) });
  const password = field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'new-password', maxlength: 1000, hint: 'Leave it empty to send an invitation by mail.' });
  return ask({
    title: 'Add an agent', fields: [name, email, role, password], confirm: 'Add',
    at: { EMAIL_TAKEN: 'email', EMAIL_INVALID: 'email', PASSWORD_UNACCEPTABLE: 'password' },
    submit: async (values) => {
      const agent = await post(path, { ...values, requestId: crypto.randomUUID() });
      announce(agent.state === 'INVITED' ? `${agent.displayName} is invited by mail.` : `${agent.displayName} is added.`);
      return agent;
    },
  });
}
