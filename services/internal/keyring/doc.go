// Package keyring keeps the suite's own secrets: it seals what a database must
// hold but not be able to read, and authenticates what it hands out and wants
// back unchanged.
//
// A keyring is a small set of named 256-bit keys, one of which is primary. New
// values are made under the primary; a value names its key, so values under
// older keys stay readable until they have been made anew. No key is used as it
// is: each [Purpose] has subkeys of its own, derived with HKDF-SHA256 (RFC
// 5869), so a value made for one purpose means nothing to another.
//
//   - [Keyring.Seal] and [Keyring.Open] are AES-256-GCM with a random nonce. The
//     caller binds a sealed value to its place (account, agent, factor, type):
//     those words are authenticated with it, so a ciphertext copied to another
//     row does not open there.
//   - [Keyring.MAC] and [Keyring.VerifyMAC] are HMAC-SHA256 over a list of words.
//
// Rotation needs no restart: [Keyring.Follow] reads the file again and again and
// swaps the whole set at once, [Keyring.Outdated] finds what is still under an
// older key. Every copy of a service must know a key before one of them makes it
// primary, and none may lose one that values are still under. So a rotation has
// steps: [Add] the new key, wait for all copies, [Promote] it, wait again, make
// anew what is outdated, [Remove] the old one. docs/keys.md walks through them.
//
// Random 96-bit nonces allow 2^32 values per key and purpose (NIST SP 800-38D,
// section 8.3); a suite that seals one secret per factor does not come near it.
//
// Tink has the same ideas (keysets, primary, key id in the header) but would
// bring its own keyset format and a protobuf tree to save the two hundred lines
// over crypto/hkdf and crypto/cipher here.
//
// The package does not know what it seals. Which purposes there are, and what
// each value is bound to, is the business of the packages that call it. It
// imports the standard library only.
package keyring
