// Some calls need a second factor that was used within the last minutes. Asks for
// one when the API does, and calls again.

import { post } from '../api.js';
import { h } from '../dom.js';
import { refreshMe } from '../identity.js';
import { codeField, field } from './form.js';
import { ask } from './dialog.js';

async function askForFactor() {
  const code = codeField();
  code.input.required = false;
  const recovery = field({ name: 'recoveryCode', label: 'Or a recovery code', autocomplete: 'off', spellcheck: 'false' });
  return ask({
    title: 'Confirm that it is you',
    body: h('p', null, 'This change needs a code that you enter now.'),
    fields: [code, recovery],
    confirm: 'Confirm',
    at: { CODE_INCORRECT: 'code', TOTP_CODE_MALFORMED: 'code', RECOVERY_CODE_MALFORMED: 'recoveryCode' },
    submit: (values) => post('/v1/me:verifyFactor', values.recoveryCode && !values.code ? { recoveryCode: values.recoveryCode.trim() } : { totpCode: values.code }),
  });
}

/** Does something that may need a fresh factor. Undefined: the person turned away. */
export async function withFreshFactor(act) {
  try {
    return await act();
  } catch (problem) {
    if (problem.reason !== 'STEP_UP_REQUIRED') throw problem;
  }
  if (!(await askForFactor())) return undefined;
  await refreshMe();
  return act();
}
