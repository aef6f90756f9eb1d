// What stands around every page: the navigation for those who are signed in, a
// plain sheet for those who are not, the title, and where the focus goes.

import { h, icon } from '../dom.js';
import { accountTitle, currentMe, forgetMe, isAdmin, memory, onIdentity } from '../identity.js';
import { isSessionOver, post } from '../api.js';
import { go, leavePage, show } from '../navigation.js';
import { routeOf } from '../routes.js';
import { revocationBanner } from './revocation-banner.js';
import { initials } from './initials.js';
import { loading } from './states.js';
import { announceProblem } from './toast.js';

const app = document.getElementById('app');
let main = null;
let shape = '';

const places = [
  { href: '/agents', label: 'Agents', symbol: 'people', admin: true },
  { href: '/notices', label: 'Notices', symbol: 'mail', admin: true },
  { href: '/activity', label: 'Activity', symbol: 'clock', admin: true },
  { href: '/manage/security', label: 'Security', symbol: 'shield', admin: true, group: 'Manage' },
  { href: '/profile', label: 'Profile', symbol: 'person', group: 'You' },
];

function logo() {
  return h('a', { class: 'logo', href: '/' }, h('img', { src: '/console/icon.svg', alt: '', width: 28, height: 28 }), 'Twofold');
}

function placeLink({ href, label, symbol }) {
  const here = location.pathname === href || location.pathname.startsWith(`${href}/`);
  return h('li', null, h('a', { class: 'place', href, 'aria-current': here && 'page' }, icon(symbol), label));
}

function navigation() {
  const shown = places.filter((place) => !place.admin || isAdmin());
  const groups = [...new Set(shown.map((place) => place.group))];
  return groups.map((group) => [
    group && h('p', { class: 'nav-group', id: `nav-${group}` }, group),
    h('ul', { 'aria-labelledby': group && `nav-${group}` }, shown.filter((place) => place.group === group).map(placeLink)),
  ]);
}

// The page is left first: nothing of it is to ask in the name of a session that ends.
async function signOut() {
  forgetMe();
  leavePage();
  frame(undefined, loading('Signing out'));
  try {
    await post('/v1/signOut');
  } catch (problem) {
    if (!isSessionOver(problem)) {
      announceProblem(problem);
      return show();
    }
  }
  // Whoever sits here next finds nothing of the one who left.
  ['ended', 'codesShown', 'next'].forEach(memory.forget);
  const { who, path } = routeOf(location.pathname)?.route ?? {};
  return who === 'anyone' && path !== '/set-up' ? undefined : go('/sign-in');
}

function whoIsHere(me) {
  return h('div', { class: 'who' },
    initials(me.agent.displayName),
    h('div', { class: 'who-text' }, h('strong', null, me.agent.displayName), h('span', { class: 'soft' }, accountTitle())),
    h('button', { class: 'quiet icon-only', type: 'button', onclick: signOut, 'aria-label': 'Sign out', title: 'Sign out' }, icon('out')));
}

function withNavigation(me) {
  const menu = h('details', { class: 'menu' }, h('summary', { 'aria-label': 'Menu' }, icon('menu')));
  const side = h('div', { class: 'side' }, h('nav', { 'aria-label': 'Main' }, navigation()), whoIsHere(me));
  const wide = matchMedia('(min-width: 60rem)');
  menu.open = false;
  side.addEventListener('click', (event) => { if (event.target.closest('a')) menu.open = false; });
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return;
    menu.open = false;
    menu.firstChild.focus();
  });
  const turnAway = (event) => { if (!menu.contains(event.target)) menu.open = false; };
  for (const type of ['pointerdown', 'focusin']) document.addEventListener(type, turnAway);
  const head = h('header', { class: 'head' }, logo(), menu);
  const arrange = () => (wide.matches ? head : menu).append(side);
  wide.onchange = arrange;
  arrange();
  return h('div', { class: 'framed' }, skipLink(), head, h('div', { class: 'column' }, h('div', { class: 'banners' }), main));
}

const skipLink = () => h('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); main.focus(); } }, 'Skip to the page');

function withoutNavigation() {
  return h('div', { class: 'sheet' }, h('header', { class: 'sheet-head' }, logo()), main);
}

/** Shows a page in its frame. */
export function frame(route, content, { focus = true } = {}) {
  const me = route?.who === 'anyone' && location.pathname !== '/set-up' ? null : currentMe();
  const wanted = me ? `framed ${me.agent.name} ${me.agent.role}` : 'sheet';
  main ??= h('main', { id: 'main', tabindex: -1 });
  main.replaceChildren(content);
  if (shape !== wanted) {
    app.replaceChildren(me ? withNavigation(me) : withoutNavigation());
    shape = wanted;
  }
  app.querySelector('nav')?.replaceChildren(...navigation().flat().filter(Boolean));
  showBanner(me);
  const heading = main.querySelector('h1');
  document.title = heading ? `${heading.textContent} – Twofold` : 'Twofold';
  if (!focus) return;
  scrollTo(0, 0);
  const first = main.querySelector('[autofocus]') ?? heading;
  if (first === heading) heading?.setAttribute('tabindex', '-1');
  first?.focus({ preventScroll: true });
}

function showBanner(me) {
  const banners = app.querySelector('.banners');
  const banner = me && revocationBanner(me);
  if (banners) banners.replaceChildren(...(banner ? [banner] : []));
}

onIdentity((me) => { if (me) showBanner(me); });
