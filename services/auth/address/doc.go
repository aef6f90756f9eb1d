// Package address says what an agent's email address and display name may be.
//
// Both end up in mails, so the grammar is far narrower than RFC 5322: one plain
// local@domain, without quoted local parts, comments, display names, address
// literals or control characters, within the lengths of RFC 5321 (section
// 4.5.3.1). Domains may be internationalized (IDNA 2008); they are kept in their
// ASCII form, because that is what travels. Local parts are ASCII: not every
// mail server takes others (RFC 6531), and look-alikes could pass for somebody.
//
// RFC 5321 leaves the case of a local part to its mail server. None in use
// tells cases apart, and people do not remember which one they typed, so
// addresses are compared in lower case ([Address.Key]); mail goes to the local
// part as it was written.
//
// The package is pure. That an address is unique in its account is the business
// of the store, by [Address.Key].
package address
