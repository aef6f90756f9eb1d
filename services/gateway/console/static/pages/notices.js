// Every mail Twofold wrote for the account, and how far its delivery has come.

import { get, query as queryOf } from '../api.js';
import { h } from '../dom.js';
import { accountName } from '../identity.js';
import { choices } from '../components/choices.js';
import { noticeList } from '../components/notice-list.js';
import { pager } from '../components/pager.js';
import { empty, fill } from '../components/states.js';

const pageSize = 50;
const filters = [['', 'All'], ['SENT', 'Sent'], ['QUEUED', 'Waiting'], ['RETRYING', 'Trying again'], ['FAILED', 'Failed'], ['UNKNOWN', 'Perhaps sent']];

export default function notices({ query, signal }) {
  let state = filters.some(([name]) => name === query.get('state')) ? query.get('state') : '';
  const list = h('div', null);
  const pages = pager(pageSize, async (token) => {
    let page;
    await fill(list, async () => {
      page = await get(`/v1/${accountName()}/notices${queryOf({ pageSize, filter: state && `state=${state}`, pageToken: token })}`, signal);
      if (page.notices.length) return noticeList(page.notices, () => pages.refresh());
      return state ? empty('None of these', 'No mail is in this state.') : empty('No mails yet', 'Mails appear here once Twofold has something to tell an agent.');
    }, signal);
    return page && { shown: page.notices.length, total: page.totalSize, next: page.nextPageToken };
  });
  pages.refresh();
  return h('div', null,
    h('div', { class: 'page-head' }, h('h1', null, 'Notices'), h('button', { type: 'button', onclick: () => pages.refresh() }, 'Refresh')),
    choices('Show', filters, state, (chosen) => {
      state = chosen;
      history.replaceState(null, '', `/notices${queryOf({ state })}`);
      pages.restart();
    }),
    h('section', { class: 'card', 'aria-label': 'Notices' }, list), pages.element);
}
