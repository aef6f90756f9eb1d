// Package story plays the product's story against a running suite, from outside:
// an account switches enforcement on; everybody without a second factor is told,
// set up at the next sign-in, or signed out at the deadline; an admin resets; and
// enforcement is switched off again.
//
// It is the demo (`make demo`) and the heart of the end-to-end tests. It imports no
// service and no platform package: it speaks REST as net/http does it, or gRPC with
// the generated clients, reads the mails that arrive, and computes TOTP codes
// itself. What it expects is written here once more, in the words of the product's
// documentation, so that a service and its own tests cannot be wrong together.
//
// Every play makes an account of its own, so it can be played again and again, and
// side by side.
package story
