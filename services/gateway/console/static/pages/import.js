// Imports agents from a CSV file: shows what was understood, sends it in batches,
// and says of each row what became of it.

import { post, Problem } from '../api.js';
import { h, icon } from '../dom.js';
import { accountName } from '../identity.js';
import { count } from '../time.js';
import { parseCsv } from '../csv.js';
import { field, form, submitButton, tick } from '../components/form.js';

// A batch is a call of its own: small enough that the bar moves.
const batchSize = 100;
const columns = { email: 'email', 'email address': 'email', name: 'displayName', displayname: 'displayName', 'display name': 'displayName', role: 'role', password: 'password', passwordhash: 'passwordHash', 'password hash': 'passwordHash' };

/** The rows of a CSV text as the API takes them, or a sentence about what is wrong. */
function understand(text) {
  const [head, ...rest] = parseCsv(text);
  if (!head) return { wrong: 'The file is empty.' };
  const names = head.map((cell) => columns[cell.trim().toLowerCase()]);
  if (!names.includes('email') || !names.includes('displayName')) return { wrong: 'The first line names the columns: at least “email” and “name”.' };
  if (text.includes('\ufffd')) return { wrong: 'Some letters cannot be read. Save the file as “CSV UTF-8”.' };
  const lines = new Map();
  const rows = rest.map((cells, i) => [cells, i + 2]).filter(([cells]) => cells.some((cell) => cell.trim())).map(([cells, line]) => {
    const row = Object.fromEntries(names.map((name, i) => [name, name === 'password' ? cells[i] ?? '' : (cells[i] ?? '').trim()]).filter(([name, value]) => name && value));
    if (row.role) row.role = row.role.toUpperCase();
    lines.set(row, line);
    return row;
  });
  return rows.length ? { rows, lines } : { wrong: 'There is no line after the one that names the columns.' };
}

const wrongRole = (row) => row.role && !['AGENT', 'ADMIN', 'OWNER'].includes(row.role);

export default function importAgents({ signal }) {
  const file = field({ name: 'file', label: 'CSV file', hint: 'Columns: email, name and, if you like, role (agent or admin) and password. Up to 10,000 lines.', control: h('input', { type: 'file', accept: '.csv,text/csv', required: true }) });
  const invite = tick({ name: 'invite', label: 'Send an invitation to those without a password', checked: true });
  const results = h('section', { class: 'card', hidden: true, 'aria-label': 'Result' });
  return h('div', null,
    h('p', { class: 'crumb' }, h('a', { href: '/agents' }, 'All agents')),
    h('h1', null, 'Import agents'),
    h('section', { class: 'card' }, form({
      label: 'Import', fields: [file], content: [file, invite], button: submitButton('Import'),
      submit: async () => {
        results.hidden = true;
        const understood = understand(await file.input.files[0].text());
        const wrong = understood.rows?.length > 10000 ? 'These are more than 10,000 lines. Import them in parts.' : understood.wrong;
        if (wrong) throw new Problem({ reason: 'FILE_UNUSABLE', fields: { file: wrong } });
        return run(understood, invite.input.checked, results, signal);
      },
    })),
    results);
}

async function run({ rows, lines }, sendInvitations, results, signal) {
  const bar = h('progress', { class: 'bar', max: rows.length, value: 0, 'aria-label': 'Imported' });
  const text = h('p', { role: 'status' });
  const body = h('tbody');
  results.hidden = false;
  results.replaceChildren(h('h2', null, 'Result'), text, bar, h('table', { class: 'table' },
    h('thead', null, h('tr', null, ['Line', 'Who', 'Result'].map((name) => h('th', { scope: 'col' }, name)))), body));
  let added = 0;
  let failed = 0;
  const report = (row, outcome) => {
    const ok = Boolean(outcome.agent);
    if (ok) added += 1; else failed += 1;
    // With thousands of lines, only those that need somebody stay on the page.
    if (ok && rows.length > 500) return;
    body.append(h('tr', null, h('td', { 'data-label': 'Line' }, lines.get(row)), h('td', null, row.displayName ?? '–', h('p', null, row.email ?? '')),
      h('td', { class: 'mark' }, ok ? h('span', { class: 'badge good' }, icon('check'), outcome.agent.state === 'INVITED' ? 'Invited' : 'Added')
        : [h('span', { class: 'badge bad' }, icon('warning'), 'Not added'), h('p', null, outcome.error.message)])));
  };
  for (let first = 0; first < rows.length && !signal.aborted; first += batchSize) {
    const batch = rows.slice(first, first + batchSize);
    const sound = batch.filter((row) => !wrongRole(row));
    const answers = sound.length ? (await post(`/v1/${accountName()}/agents:import`, { agents: sound, sendInvitations, requestId: crypto.randomUUID() }, signal)).results : [];
    batch.forEach((row) => report(row, wrongRole(row) ? { error: { message: `“${row.role}” is no role: use agent, admin or owner.` } } : answers.shift()));
    bar.value = first + batch.length;
    text.textContent = `${count(first + batch.length, 'line')} of ${rows.length}: ${added} added, ${failed} not.`;
  }
}
