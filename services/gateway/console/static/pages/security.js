// Manage > Security: whether everybody needs a second factor, and since when.

import { get, patch, query } from '../api.js';
import { h, icon } from '../dom.js';
import { accountName, memory, refreshMe } from '../identity.js';
import { inWords, secondsOf, when } from '../time.js';
import { form, submitButton, tick, toggle } from '../components/form.js';
import { gracePeriod } from '../components/grace-period.js';
import { nameOf } from '../components/actor.js';
import { rolloutProgress } from '../components/rollout-progress.js';
import { previewAndSave } from '../components/save-preview.js';
import { fill } from '../components/states.js';
import { announce } from '../components/toast.js';

export default async function security({ signal }) {
  const account = accountName();
  const path = `/v1/${account}/mfaPolicy`;
  let policy = await get(path, signal);

  const enforced = toggle({ name: 'enforced', label: 'Enforce Two-Factor Authentication', hint: 'Everybody in this account needs an authenticator app to sign in.' });
  const grace = gracePeriod(policy.gracePeriod);
  const sso = tick({ name: 'applyToSso', label: 'Also those who sign in through your identity provider' });
  const conflict = h('div', null);
  const history = h('div', null);

  const wanted = () => ({ enforced: enforced.input.checked, gracePeriod: grace.value(), applyToSso: sso.input.checked });
  const isSame = (a, b) => a.enforced === b.enforced && secondsOf(a.gracePeriod) === secondsOf(b.gracePeriod) && a.applyToSso === b.applyToSso;
  const unsaved = h('p', { class: 'soft', role: 'status' });
  const undo = h('button', { type: 'button', class: 'quiet', onclick: () => { take(policy); save.focus(); } }, 'Undo');
  const mark = () => {
    undo.hidden = isSame(wanted(), policy);
    unsaved.textContent = undo.hidden ? '' : 'Not saved yet';
  };
  const show = ({ enforced: on, gracePeriod: duration, applyToSso }) => {
    enforced.input.checked = on;
    grace.set(duration);
    sso.input.checked = applyToSso;
    mark();
  };
  const loadHistory = () => fill(history, () => revisions(path, signal), signal);

  // What was chosen before a set-up of one's own, or before a reload.
  const draftName = `policyDraft.${account}`;
  show({ ...policy, ...memory.read(draftName) });

  const save = submitButton('Save');
  const editor = form({
    label: 'Two-factor authentication', fields: [grace], content: [enforced, grace.element, sso], button: save, actions: [undo, unsaved],
    submit: async () => {
      const draft = wanted();
      if (isSame(draft, policy)) return announce('Nothing to save: this is how it is.');
      memory.keep(draftName, draft);
      // What is saved is a change of what was seen, and so is what is foretold.
      if ((await get(path, signal)).etag !== policy.etag) return queueMicrotask(explainConflict);
      const requestId = crypto.randomUUID();
      const saved = await previewAndSave(account, draft, signal,
        () => patch(`${path}${query({ requestId })}`, { ...draft, etag: policy.etag }),
        () => queueMicrotask(explainConflict));
      if (!saved?.etag) return undefined;
      take(saved);
      return announce(saved.enforced ? 'Saved. Two-factor authentication is enforced.' : 'Saved. Two-factor authentication is not enforced.');
    },
  });
  editor.addEventListener('input', mark);
  editor.addEventListener('change', () => (isSame(wanted(), policy) ? memory.forget(draftName) : memory.keep(draftName, wanted())));

  function take(now) {
    policy = now;
    memory.forget(draftName);
    show(policy);
    conflict.replaceChildren();
    loadHistory();
    refreshMe().catch(() => {}); // one's own session may end now, or stay
  }

  async function explainConflict() {
    const mine = wanted();
    const [theirs, { revisions: [last] }] = await Promise.all([get(path), get(`${path}/revisions?pageSize=1`)]);
    const who = await nameOf(last.actor);
    loadHistory();
    conflict.replaceChildren(h('div', { class: 'note warn', role: 'alert', tabindex: -1 }, icon('warning'), h('div', null,
      h('strong', null, who, ' changed this while you were editing'),
      h('p', null, 'Saved on ', when(theirs.updateTime), ': ', say(theirs), '.'),
      h('p', null, 'Yours, not saved: ', say(mine), '.'),
      h('div', { class: 'actions' },
        h('button', { type: 'button', onclick: () => { policy = theirs; conflict.replaceChildren(); save.focus(); save.click(); } }, 'Save mine instead'),
        h('button', { type: 'button', onclick: () => { take(theirs); enforced.input.focus(); } }, 'Take theirs')))));
    conflict.firstChild.focus();
  }

  loadHistory();
  return h('div', { class: 'security' },
    h('h1', null, 'Security'),
    rolloutProgress(account, signal, (rollout) => {
      // Somebody else saved: show it, unless there is something of one's own to lose.
      if (rollout.policy.revision !== policy.revision && isSame(wanted(), policy) && !document.querySelector('dialog[open]')) take(rollout.policy);
    }),
    h('section', { class: 'card' }, conflict, editor),
    h('section', { class: 'card' }, h('h2', null, 'Changes'), history));
}

const say = (p) => `${p.enforced ? 'Enforced' : 'Not enforced'}, grace period ${inWords(secondsOf(p.gracePeriod))}${p.applyToSso ? ', also through your identity provider' : ''}`;

async function revisions(path, signal) {
  const { revisions: list } = await get(`${path}/revisions?pageSize=10`, signal);
  const rows = await Promise.all(list.map(async ({ policy, actor, previousSessionRevokeTime }) => h('li', null,
    h('div', { class: 'row-main' },
      h('span', null, policy.enforced ? say(policy) : 'Not enforced'),
      h('p', null, await nameOf(actor), previousSessionRevokeTime && [' · the earlier date was ', when(previousSessionRevokeTime)])),
    h('span', { class: 'soft small' }, when(policy.updateTime)))));
  return h('ul', { class: 'rows' }, rows);
}
