// Package console plays the console in a real browser, Debian's Chromium, against
// an all-in-one: what people click, type, see and hear read. It tests; it holds no
// code of its own.
package console
