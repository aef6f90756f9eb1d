// Package resource reads and writes the resource names of accounts and agents
// (AIP-122), which every service meets: `accounts/{account}` and
// `accounts/{account}/agents/{agent}`.
//
// It owns their form alone. Whether such a resource exists is the auth service's
// business, and whether a caller may know of it is package authz's. Names that
// only one service has (policies, sessions, notices) are that service's own.
package resource
