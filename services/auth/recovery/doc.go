// Package recovery makes and checks recovery codes, the look-up secrets that
// stand in for a lost authenticator (NIST SP 800-63B-4, section 3.1.2).
//
// A code has 128 random bits, written in Crockford's base32, which has no
// letters that look alike, in groups of four. With that many bits a keyed hash
// is enough to store it (OWASP ASVS 6.5.2); the key lives outside the database.
// The hash is bound to the agent and to the generation of the set, so it means
// nothing in another row or after the set was made anew.
//
// The package is pure. Package auth stores the hashes, and deletes the one that
// [Match] finds in the same transaction that lets the agent in, so that a code
// is good once; it also tells the agent by mail.
package recovery
