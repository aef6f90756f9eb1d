package notifier

import (
	"encoding/json"
	"time"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// state is how far a notice has come, as it is stored and as the API names it.
type state string

const (
	stateQueued     state = "QUEUED"
	stateSending    state = "SENDING"
	stateSent       state = "SENT"
	stateRetrying   state = "RETRYING"
	stateFailed     state = "FAILED"
	stateUnknown    state = "UNKNOWN"
	stateSuppressed state = "SUPPRESSED"
)

func states() []state {
	return []state{stateQueued, stateSending, stateSent, stateRetrying, stateFailed, stateUnknown, stateSuppressed}
}

// priority is which notices go first when many wait.
type priority int

const (
	// urgent notices tell one agent of something that just happened to them; they
	// do not wait behind the mails to a whole account.
	urgent priority = 0
	bulk   priority = 1
)

func priorityOf(kind mail.Kind) priority {
	if isOfPolicy(kind) {
		return bulk
	}
	return urgent
}

// priority is also urgent for what somebody asked for.
func (n notice) priority() priority {
	if n.resent {
		return urgent
	}
	if n.facts.ToMany {
		return bulk
	}
	return priorityOf(n.kind)
}

// isOfPolicy says whether notices of the kind speak of an account's policy, and so
// hold for one of its revisions only.
func isOfPolicy(kind mail.Kind) bool {
	return kind == mail.KindEnforcementEnabled || kind == mail.KindEnforcementLifted
}

// notice is one mail to one agent.
type notice struct {
	id          string
	account     string
	kind        mail.Kind
	eventID     string
	agent       string // the bare id
	email       string
	displayName string
	state       state
	facts       facts

	// Of notices about the policy only.
	policyRevision int64
	enforceTime    time.Time
	revokeTime     time.Time

	createTime, updateTime, nextAttemptTime time.Time

	failedAttempts, ambiguousAttempts int
	firstFailureTime                  time.Time
	resent                            bool
	lastError                         string
}

// facts is what an event said that the mail repeats.
type facts struct {
	Time      time.Time `json:"time,omitzero"`
	Actor     actor     `json:"actor,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	CodesLeft int       `json:"codesLeft,omitempty"`
	// Cause is how a password came about.
	Cause string `json:"cause,omitempty"`
	// EarlierEmail is where a change of address is told, and MaskedEmail what of the
	// new one.
	EarlierEmail string `json:"earlierEmail,omitempty"`
	MaskedEmail  string `json:"maskedEmail,omitempty"`
	// ToMany says that the event is told to many at once.
	ToMany bool `json:"toMany,omitempty"`
}

// actor is who caused an event.
type actor struct {
	Operator bool   `json:"operator,omitempty"`
	Agent    string `json:"agent,omitempty"` // the resource name
	Name     string `json:"name,omitempty"`  // how to call them, if the event said so
}

func actorOf(a *eventv1.Actor) actor {
	who := actor{Operator: a.GetKind() == eventv1.Actor_OPERATOR, Name: a.GetDisplayName()}
	if a.GetKind() == eventv1.Actor_AGENT {
		who.Agent = a.GetName()
	}
	return who
}

// encode is for columns that hold JSON. What is stored this way always encodes.
func encode(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
