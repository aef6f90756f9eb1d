package session

import (
	"hash/fnv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// validAccount reports whether text has the form of an account id. Every verdict
// asks, so it is not the regular expression that it could be.
func validAccount(text string) bool {
	if text == "" || len(text) > 63 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// agentRef names an agent. Its sessions live in one bucket.
type agentRef struct {
	account string
	agent   uuid.UUID
}

// sessionRef names a session.
type sessionRef struct {
	agentRef
	id uuid.UUID
}

// bucket is where everything about the agent is.
func (a agentRef) bucket() int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.account)) // never fails
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write(a.agent[:])
	sum := h.Sum64()
	return int((sum ^ sum>>32) % buckets)
}

// shard spreads the agents of a bucket over its indexes.
func (a agentRef) shard() int { return int(a.agent[15]) }

func (a agentRef) String() string {
	return "accounts/" + a.account + "/agents/" + a.agent.String()
}

func (s sessionRef) String() string {
	return s.agentRef.String() + "/sessions/" + s.id.String()
}

// member is the session in the index of its shard, and in the outbox.
func (s sessionRef) member() string {
	return string(s.agent[:]) + string(s.id[:])
}

const memberSize = 32

// memberRef is the inverse of member.
func memberRef(account, member string) (sessionRef, bool) {
	if len(member) != memberSize {
		return sessionRef{}, false
	}
	ref := sessionRef{agentRef: agentRef{account: account}}
	copy(ref.agent[:], member[:16])
	copy(ref.id[:], member[16:])
	return ref, true
}

// parseAgent reads `accounts/{account}/agents/{agent}`.
func parseAgent(name, field string) (agentRef, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "accounts" || parts[2] != "agents" || !validAccount(parts[1]) {
		return agentRef{}, invalidName(field, "accounts/{account}/agents/{agent}")
	}
	id, ok := parseID(parts[3])
	if !ok {
		return agentRef{}, invalidName(field, "accounts/{account}/agents/{agent}")
	}
	return agentRef{account: parts[1], agent: id}, nil
}

// parseSession reads `accounts/{account}/agents/{agent}/sessions/{session}`.
func parseSession(name, field string) (sessionRef, error) {
	cut := strings.LastIndex(name, "/sessions/")
	if cut < 0 {
		return sessionRef{}, invalidName(field, "accounts/{account}/agents/{agent}/sessions/{session}")
	}
	agent, err := parseAgent(name[:cut], field)
	if err != nil {
		return sessionRef{}, err
	}
	id, ok := parseID(name[cut+len("/sessions/"):])
	if !ok {
		return sessionRef{}, invalidName(field, "accounts/{account}/agents/{agent}/sessions/{session}")
	}
	return sessionRef{agentRef: agent, id: id}, nil
}

// parseID accepts the one spelling in which ids are given out.
func parseID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && id.String() == text
}

func invalidName(field, form string) error {
	return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The name does not have the form "+form+".").WithField(field)
}
