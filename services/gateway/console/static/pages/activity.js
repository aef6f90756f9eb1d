// Who changed what, when, on whom, and from where.

import { file, get, query as queryOf } from '../api.js';
import { h } from '../dom.js';
import { accountName } from '../identity.js';
import { when } from '../time.js';
import { agentName, nameOf } from '../components/actor.js';
import { actionWords, detailWords } from '../components/audit-words.js';
import { choices } from '../components/choices.js';
import { pager } from '../components/pager.js';
import { saveFile } from '../components/save-file.js';
import { empty, fill } from '../components/states.js';
import { announceProblem } from '../components/toast.js';

const pageSize = 50;

async function subjectOf(event) {
  const agent = event.details?.agent ?? event.subject;
  if (/\/agents\/[^/]+$/.test(agent)) return h('a', { href: `/agents/${agent.split('/').at(-1)}` }, await agentName(agent));
  if (event.subject.includes('/notices/')) return h('a', { href: '/notices' }, 'A mail');
  return event.subject.endsWith('/mfaPolicy') ? h('a', { href: '/manage/security' }, 'The policy') : 'The account';
}

async function row(event) {
  const details = detailWords(event.details);
  return h('tr', null,
    h('td', { class: 'name' }, await nameOf(event.actor)),
    h('td', null, actionWords(event.action), details && h('p', null, details)),
    h('td', { class: 'name', 'data-label': 'On' }, await subjectOf(event)),
    h('td', { class: 'mark' }, h('span', { class: `badge ${event.result === 'OK' ? 'good' : 'bad'}` }, event.result === 'OK' ? 'Done' : 'Refused'), event.errorReason && h('p', null, h('code', null, event.errorReason))),
    h('td', { class: 'soft' }, when(event.eventTime), h('p', null, event.clientAddress)));
}

async function exportAll(button) {
  button.disabled = true;
  try {
    saveFile(await file(`/v1/${accountName()}/auditEvents:export?format=CSV`), 'twofold-activity.csv');
  } catch (problem) {
    announceProblem(problem);
  } finally {
    button.disabled = false;
  }
}

const filters = [['', 'All'], ['OK', 'Done'], ['DENIED', 'Refused']];

export default function activity({ query, signal }) {
  let result = filters.some(([name]) => name === query.get('result')) ? query.get('result') : '';
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
  pages.refresh();
  return h('div', null,
    h('div', { class: 'page-head' }, h('h1', null, 'Activity'), h('button', { type: 'button', onclick: (event) => exportAll(event.target) }, 'Export as CSV')),
    choices('Show', filters, result, (chosen) => {
      result = chosen;
      history.replaceState(null, '', `/activity${queryOf({ result })}`);
      pages.restart();
    }),
    h('section', { class: 'card', 'aria-label': 'Activity' }, list), pages.element);
}
