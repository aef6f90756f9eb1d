// Puts the reasons of the API into sentences, where the page knows better than the
// API what a person can do now. Everything else is said in the API's own words.

const sentences = {
  GATEWAY_UNREACHABLE: 'Twofold cannot be reached. Check your connection; nothing you entered is lost.',
  DEPENDENCY_UNAVAILABLE: 'A part of Twofold is not reachable at the moment. Try again in a moment.',
  DEADLINE_EXCEEDED: 'This took too long, and may have been done all the same. Reload the page to see.',
  INVALID_CREDENTIALS: 'Account, email address or password is wrong. Check all three and try again.',
  CODE_INCORRECT: 'This code is wrong, or was used before. Wait for your app to show the next one and type that.',
  TOTP_CODE_MALFORMED: 'Type the six digits that your authenticator app shows.',
  RECOVERY_CODE_MALFORMED: 'This does not look like one of your recovery codes. Compare it with the list you saved.',
  SIGN_IN_EXPIRED: 'That sign-in took too long or was replaced by another. Please sign in again.',
  ENROLLMENT_EXPIRED: 'This QR code is no longer valid. Scan the new one instead.',
  ADMIN_NOT_ENROLLED: 'Set up two-factor authentication for yourself first; then you can require it of everybody.',
  LAST_FACTOR_PROTECTED: 'Your account requires two-factor authentication, so your last factor stays. You can replace it instead.',
  CANNOT_RESET_SELF: 'Nobody resets their own two-factor authentication. Ask another admin.',
  OWNER_REQUIRED: 'Only an owner of the account may do this.',
  CALLER_NOT_PERMITTED: 'Only admins of the account may do this.',
  ETAG_MISMATCH: 'Somebody else changed this meanwhile.',
  EMAIL_TAKEN: 'An agent of this account has this email address already.',
  RESOURCE_NOT_FOUND: 'There is nothing here, or nothing you may see.',
  LINK_EXPIRED: 'This link is used up, replaced or too old. Ask for a new one.',
  METHOD_UNKNOWN: 'This Twofold installation cannot do that yet.',
  INTERNAL: 'Something went wrong inside Twofold. Try again; if it stays so, tell the people who run it.',
};

/** What to tell a person. */
export function sentenceFor(reason, message, retryAfter) {
  if (reason === 'TOO_MANY_ATTEMPTS') return `Too many wrong attempts. Try again ${inWords(retryAfter)}.`;
  return sentences[reason] ?? message ?? 'Something went wrong. Try again.';
}

function inWords(seconds) {
  if (!seconds) return 'later';
  if (seconds < 90) return `in ${seconds} seconds`;
  return `in ${Math.ceil(seconds / 60)} minutes`;
}

/** Why a session ended, on the sign-in page. Reasons without a sentence need none. */
export const endings = {
  SESSION_ENDED_BY_MFA_POLICY: {
    title: 'You were signed out',
    text: 'Your account requires two-factor authentication, and the time to set it up is over. Sign in again and you are led through it.',
  },
  SESSION_REVOKED: { title: 'You were signed out', text: 'This session was ended on another device or in another tab, by an admin, or by a change to how you sign in.' },
  SESSION_EXPIRED: { title: 'You were signed out', text: 'This session was not used for a while, or has reached its age limit.' },
  SESSION_STORE_LOST: { title: 'You were signed out', text: 'Twofold had to end all sessions after a fault. Nothing else is lost.' },
  SESSION_UNKNOWN: { title: 'You were signed out', text: 'This session is over.' },
  SIGN_IN_EXPIRED: { title: 'Please start again', text: 'That sign-in took too long or was replaced by another one.' },
};
