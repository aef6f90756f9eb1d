// Package password hashes passwords and checks them.
//
// New hashes are Argon2id with 19 MiB, two passes and one lane (OWASP Password
// Storage Cheat Sheet), as PHC strings. Hashes of other systems can be imported:
// bcrypt, and Argon2id with other parameters, both up to a ceiling of cost,
// because whoever imports a hash chooses what every later sign-in costs us.
// [Hasher.Verify] says when a hash should be made anew.
//
// A password is 8 to 1,000 characters, counted in code points after Unicode
// normalization (NFC), of any kind, and all of it counts (NIST SP 800-63B-4,
// section 3.1.1.2; OWASP ASVS 6.2.8 and 6.2.9). Rules about its composition are
// absent on purpose.
//
// Hashing costs memory and processor time that anybody can make us spend, so a
// [Hasher] has a fixed budget of memory with a short queue before it. Whoever
// finds the queue full gets RESOURCE_EXHAUSTED at once.
//
// Who may sign in, and how often may be guessed, is the business of package
// auth. It calls [Hasher.VerifyUnknown] for whoever it does not know, so that
// the answer takes as long.
package password
