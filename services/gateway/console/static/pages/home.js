// The start: admins see their agents, everybody else their profile.

import { isAdmin } from '../identity.js';
import { go } from '../navigation.js';

export default function home() {
  go(isAdmin() ? '/agents' : '/profile', { replace: true });
}
