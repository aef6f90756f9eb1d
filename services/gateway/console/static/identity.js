// Who is signed in, and what this browser tab remembers of a sign-in under way.
// Tokens are in cookies that no script can read; the one secret kept here is that of
// a mail's one-time link, until its page is left.

import { get, onSessionOver } from './api.js';

let me = null;
let account = null;
let revokeTimer;
const watchers = new Set();

/** The answer of GET /v1/me, or null while nobody is signed in. */
export const currentMe = () => me;
export const isAdmin = () => ['ADMIN', 'OWNER'].includes(me?.agent.role);
export const isOwner = () => me?.agent.role === 'OWNER';

/** `accounts/acme` of whoever is signed in. */
export const accountName = () => me.agent.name.split('/').slice(0, 2).join('/');
export const accountTitle = () => account?.displayName ?? accountName().split('/')[1];

/** Tells when who is signed in, or what is known of them, changes. */
export const onIdentity = (watcher) => watchers.add(watcher);

/** Asks again who is signed in. */
export async function refreshMe() {
  const answer = await get('/v1/me');
  if (account?.name !== answer.agent.name.split('/').slice(0, 2).join('/')) {
    account = await get(`/v1/${answer.agent.name.split('/').slice(0, 2).join('/')}`);
  }
  me = answer;
  watchers.forEach((watcher) => watcher(me));
  checkWhenItEnds(me.session.policyRevokeTime);
  return me;
}

// A page that is left open finds out by itself when the policy has ended its
// session. The limit is what a browser's timers can wait.
function checkWhenItEnds(revokeTime) {
  clearTimeout(revokeTimer);
  if (!revokeTime) return;
  const wait = Math.max(500, Date.parse(revokeTime) - Date.now() + 300);
  revokeTimer = setTimeout(() => refreshMe().catch(() => checkWhenItEnds(me && revokeTime)), Math.min(wait, 2 ** 31 - 1));
}

export function forgetMe() {
  clearTimeout(revokeTimer);
  me = null;
  account = null;
  watchers.forEach((watcher) => watcher(me));
}

onSessionOver(forgetMe);

// Coming back to a page asks again: something may have changed meanwhile. There is
// no regular question, for that would count as use and keep idle sessions alive.
let lastAsked = 0;
function askAgain() {
  if (!me || document.hidden || Date.now() - lastAsked < 15000) return;
  lastAsked = Date.now();
  const before = me.agent.name;
  // Somebody else signed in, in another tab: nothing of the one before stays here.
  refreshMe().then(({ agent }) => { if (agent.name !== before) location.reload(); }, () => {});
}
for (const event of ['focus', 'pointerdown', 'keydown']) addEventListener(event, askAgain, { passive: true });
document.addEventListener('visibilitychange', askAgain);

/** Something kept for this tab until it is closed, even over a reload. */
export const memory = {
  read(name) {
    try {
      return JSON.parse(sessionStorage.getItem(`twofold.${name}`));
    } catch {
      return null;
    }
  },
  keep: (name, value) => sessionStorage.setItem(`twofold.${name}`, JSON.stringify(value)),
  forget: (name) => sessionStorage.removeItem(`twofold.${name}`),
};
