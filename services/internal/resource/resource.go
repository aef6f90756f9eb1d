package resource

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// accountID is the form of a bare account id. It is a label of a NATS subject
// and part of a Redis key, so nothing else may stand in it.
var accountID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// agentID is the form of a bare agent id, a UUID in lower case.
var agentID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// IsAccountID reports whether id can be the bare id of an account.
func IsAccountID(id string) bool { return accountID.MatchString(id) }

// Account returns `accounts/{account}`.
func Account(account string) string { return "accounts/" + account }

// ErrNotFound answers for what does not exist and for what the caller may not
// know of alike. An id that no account or agent can have is one of nobody.
var ErrNotFound = errs.New(codes.NotFound, errs.ReasonResourceNotFound, "There is no such resource.")

// ParseAccount returns the bare id in `accounts/{account}`. field names the
// request's field in the error, which is INVALID_FIELD for another form and
// RESOURCE_NOT_FOUND for an id that no account can have.
func ParseAccount(field, name string) (account string, err error) {
	account, found := strings.CutPrefix(name, "accounts/")
	if !found || account == "" || strings.Contains(account, "/") {
		return "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
			"An account's name has the form accounts/{account}.").
			WithViolation(field, "It must have the form accounts/{account}.")
	}
	if !accountID.MatchString(account) {
		return "", ErrNotFound
	}
	return account, nil
}

// AgentName is an agent's resource name in its parts.
type AgentName struct {
	// Account is the bare id of the account, such as `acme`.
	Account string
	// Agent is the bare id of the agent, a UUID.
	Agent string
}

// String returns `accounts/{account}/agents/{agent}`.
func (n AgentName) String() string {
	return fmt.Sprintf("accounts/%s/agents/%s", n.Account, n.Agent)
}

// ParseAgent returns the parts of `accounts/{account}/agents/{agent}`. field
// names the request's field in the error, which is as in ParseAccount.
func ParseAgent(field, name string) (AgentName, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "accounts" || parts[1] == "" || parts[2] != "agents" || parts[3] == "" {
		return AgentName{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
			"An agent's name has the form accounts/{account}/agents/{agent}.").
			WithViolation(field, "It must have the form accounts/{account}/agents/{agent}.")
	}
	if !accountID.MatchString(parts[1]) || !agentID.MatchString(parts[3]) {
		return AgentName{}, ErrNotFound
	}
	return AgentName{Account: parts[1], Agent: parts[3]}, nil
}
