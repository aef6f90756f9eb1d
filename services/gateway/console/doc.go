// Package console is the page that admins and agents see: sign-in, set-up of a
// second factor, Manage > Security, agents, notices and profile.
//
// It owns static files and the headers they are served with. It knows no service
// and holds no state: in the browser it speaks to the public REST API with the
// browser's cookies, as any other frontend of the same origin would. The gateway
// mounts it and owns everything under /v1/.
package console
