// Package totp makes and checks time-based one-time passwords: RFC 6238 with
// SHA-1, six digits and steps of 30 seconds, which is what every authenticator
// app understands, and secrets of 160 bits, which RFC 4226 (section 4, R6)
// recommends.
//
// One step either side of the server's is accepted, for the delay of people and
// the drift of phones (RFC 6238, section 5.2). OWASP ASVS 6.5.5 asks for codes
// that live 30 seconds at most; ours live 90, and a guess succeeds with a chance
// of 3 in a million. Limits on guessing are kept elsewhere.
//
// The arithmetic is github.com/pquerna/otp/hotp. The rest is ours, because that
// library's verifier trims Unicode white space off codes, cannot tell a replay,
// does not say which step matched, and takes an empty secret for a good one; and
// its key URI leaves '/', '&' and ':' of a label as they are.
//
// The package is pure: it gets the time, the randomness and the last accepted
// step as arguments and keeps nothing. Package auth stores the secret sealed,
// and consumes the step that [Match] returns with a compare-and-set, so that of
// two requests with one code only one gets in.
package totp
