// Package pagetoken makes the page tokens of list methods
// (https://google.aip.dev/158).
//
// A token is the place where the next page begins, sealed: callers can neither
// read nor change nor make one, so a store may put sort keys into it, such as an
// email address, and trust what comes back. A token is bound to the query it was
// made for, and only there does it decode; the size of a page is no part of the
// query, because a caller may change it from page to page.
//
// What a cursor holds and how a query continues from it is the business of the
// store that lists. Whether a caller may list at all is decided before: a token
// is no permission.
package pagetoken
