// Who did something, by the name people know.

import { get } from '../api.js';
import { currentMe } from '../identity.js';

const names = new Map();

/** The name of an agent by its resource name; its id if nobody knows it any more. */
export async function agentName(resource) {
  if (resource === currentMe()?.agent.name) return currentMe().agent.displayName;
  if (!names.has(resource)) {
    names.set(resource, get(`/v1/${resource}`).then((agent) => agent.displayName, () => {
      names.delete(resource);
      return 'Somebody';
    }));
  }
  return names.get(resource);
}

/** The name of an actor of the API. */
export async function nameOf(actor) {
  if (actor?.displayName) return actor.displayName;
  if (actor?.kind === 'AGENT') return agentName(actor.name);
  return actor?.kind === 'OPERATOR' ? 'The platform team' : 'Twofold';
}
