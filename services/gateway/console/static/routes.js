// Every page of the console: its path, who may see it, and its file in pages/.
// console.go knows the first part of each path, so that a link from outside finds
// the page, too.

export const routes = [
  { path: '/sign-in', who: 'anyone', page: 'sign-in' },
  { path: '/sign-in/code', who: 'anyone', page: 'second-factor' },
  { path: '/set-up', who: 'anyone', page: 'set-up' },
  { path: '/forgot-password', who: 'anyone', page: 'forgot-password' },
  { path: '/reset-password', who: 'anyone', page: 'choose-password' },
  { path: '/accept-invitation', who: 'anyone', page: 'choose-password' },
  { path: '/', who: 'session', page: 'home' },
  { path: '/profile', who: 'session', page: 'profile' },
  { path: '/agents', who: 'admin', page: 'agents' },
  { path: '/agents/import', who: 'admin', page: 'import' },
  { path: '/agents/:id', who: 'admin', page: 'agent' },
  { path: '/notices', who: 'admin', page: 'notices' },
  { path: '/activity', who: 'admin', page: 'activity' },
  { path: '/manage', who: 'admin', page: 'security' },
  { path: '/manage/security', who: 'admin', page: 'security' },
];

/** The route of a path and what stands at its variables, or undefined. */
export function routeOf(pathname) {
  const parts = pathname.replace(/(.)\/$/, '$1').split('/');
  for (const route of routes) {
    const wanted = route.path.split('/');
    if (wanted.length !== parts.length) continue;
    const params = {};
    const fits = wanted.every((part, i) => {
      if (!part.startsWith(':')) return part === parts[i];
      params[part.slice(1)] = parts[i];
      return parts[i] !== '';
    });
    if (fits) return { route, params };
  }
  return undefined;
}
