// Package inbox is the mail server of the all-in-one: it takes every mail the
// suite sends, keeps it, and shows it in a browser, so that a newcomer sees the
// mails without having a mail server.
//
// It owns the mails it was handed, as files, the newest 5,000 of them. It knows
// nothing of how mails are made (notifier/mail) or sent (notifier/smtppool) beyond
// two header names, and it is no mailbox for people: whoever reaches it reads
// everything, links to set a password included. That is why it takes mails and
// shows them on loopback only, and why its pages answer to loopback names only:
// a page elsewhere cannot read it by pointing a name of its own at 127.0.0.1
// (DNS rebinding).
//
// The HTML of a mail is somebody else's. It is shown in a sandboxed frame, under a
// content security policy of its own that runs and loads nothing.
package inbox
