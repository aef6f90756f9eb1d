// Who changed what, when, on whom, and from where.

import { get, query as queryOf } from '../api.js';
import { h } from '../dom.js';
import { accountName } from '../identity.js';
import { when } from '../time.js';
import { agentName, nameOf } from '../components/actor.js';
import { choices } from '../components/choices.js';
import { pager } from '../components/pager.js';
import { empty, fill } from '../components/states.js';

const pageSize = 50;

/** `agent.resetMfa` as words: `agent: reset mfa`. */
const actionWords = (action) => action.replace('.', ': ').replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase().replace('mfa', 'two-factor');

async function subjectOf(event) {
  if (/\/agents\/[^/]+$/.test(event.subject)) return h('a', { href: `/agents/${event.subject.split('/').at(-1)}` }, await agentName(event.subject));
  return event.subject.split('/').slice(2).join(' ') || 'The account';
}

async function row(event) {
  const details = Object.entries(event.details ?? {}).map(([key, value]) => `${key}: ${value}`).join(' · ');
  return h('tr', null,
    h('td', null, await nameOf(event.actor)),
    h('td', null, actionWords(event.action), details && h('p', null, details)),
    h('td', null, await subjectOf(event)),
    h('td', null, h('span', { class: `badge ${event.result === 'OK' ? 'good' : 'bad'}` }, event.result === 'OK' ? 'Done' : 'Refused'), event.errorReason && h('p', null, h('code', null, event.errorReason))),
    h('td', { class: 'soft' }, when(event.eventTime), h('p', null, event.clientAddress)));
}

export default async function activity({ signal }) {
  let result = '';
  const list = h('div', null);
  const pages = pager(pageSize, async (token) => {
    let page;
    await fill(list, async () => {
      page = await get(`/v1/${accountName()}/auditEvents${queryOf({ pageSize, filter: result && `result=${result}`, pageToken: token })}`, signal);
      if (!page.auditEvents.length) return empty('Nothing yet', 'Changes to the policy and to agents appear here.');
      return h('table', { class: 'table' },
        h('thead', null, h('tr', null, ['Who', 'What', 'On whom', 'Result', 'When, from where'].map((name) => h('th', { scope: 'col' }, name)))),
        h('tbody', null, await Promise.all(page.auditEvents.map(row))));
    }, signal);
    return page && { shown: page.auditEvents.length, next: page.nextPageToken };
  });
  await pages.refresh();
  return h('div', null,
    h('h1', null, 'Activity'),
    choices('Show', [['', 'All'], ['OK', 'Done'], ['DENIED', 'Refused']], result, (chosen) => { result = chosen; pages.restart(); }),
    h('section', { class: 'card', 'aria-label': 'Activity' }, list), pages.element);
}
