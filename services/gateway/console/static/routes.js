// Every page of the console, by its path, and who may see it. console.go knows the
// first part of each path, so that a link from outside finds the page, too.

export const routes = [
  { path: '/sign-in', who: 'anyone', load: () => import('./pages/sign-in.js') },
  { path: '/sign-in/code', who: 'anyone', load: () => import('./pages/second-factor.js') },
  { path: '/set-up', who: 'anyone', load: () => import('./pages/set-up.js') },
  { path: '/forgot-password', who: 'anyone', load: () => import('./pages/forgot-password.js') },
  { path: '/reset-password', who: 'anyone', load: () => import('./pages/choose-password.js') },
  { path: '/accept-invitation', who: 'anyone', load: () => import('./pages/choose-password.js') },
  { path: '/', who: 'session', load: () => import('./pages/home.js') },
  { path: '/profile', who: 'session', load: () => import('./pages/profile.js') },
  { path: '/agents', who: 'admin', load: () => import('./pages/agents.js') },
  { path: '/agents/import', who: 'admin', load: () => import('./pages/import.js') },
  { path: '/agents/:id', who: 'admin', load: () => import('./pages/agent.js') },
  { path: '/notices', who: 'admin', load: () => import('./pages/notices.js') },
  { path: '/activity', who: 'admin', load: () => import('./pages/activity.js') },
  { path: '/manage', who: 'admin', load: () => import('./pages/security.js') },
  { path: '/manage/security', who: 'admin', load: () => import('./pages/security.js') },
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
