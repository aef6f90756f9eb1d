// Package mail puts into words what Twofold has to tell a person by email.
//
// It owns the words, the layout and the MIME form of every notice: typed data
// goes in, a Message comes out, and Message.Bytes is exactly what a mail
// server is handed. It decides nothing: the notifier decides who is told and
// when, and package smtppool carries the bytes.
//
// Three rules hold for every mail:
//
//   - One source of words. Each kind has one file under templates/, and both
//     the plain-text and the HTML part are made from it, so that neither part
//     says less than the other.
//   - Names are data. Accounts, agents, administrators and reasons are typed by
//     people, some of whom mean harm. Every string of the typed data is cleaned
//     before a template sees it (see clean), so a name cannot start a header,
//     a line, a link or markup, whichever field it arrived in.
//   - One recipient. There is no Cc, no Bcc and no list, so a mail cannot carry
//     another agent's address.
//
// Mails load nothing from the network and count nothing: no images, no fonts,
// no tracking links.
package mail
