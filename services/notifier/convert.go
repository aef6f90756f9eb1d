package notifier

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// noticeID is the form of a bare notice id, a UUID in lower case.
var noticeID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// noticeName is a notice's resource name.
func noticeName(n notice) string { return fmt.Sprintf("accounts/%s/notices/%s", n.account, n.id) }

// parseNotice returns the parts of `accounts/{account}/notices/{notice}`; field is
// where the request had it.
func parseNotice(field, name string) (account, id string, err error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "accounts" || parts[1] == "" || parts[2] != "notices" || parts[3] == "" {
		return "", "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
			"A notice's name has the form accounts/{account}/notices/{notice}.").
			WithViolation(field, "It must have the form accounts/{account}/notices/{notice}.")
	}
	if !resource.IsAccountID(parts[1]) || !noticeID.MatchString(parts[3]) {
		return "", "", resource.ErrNotFound
	}
	return parts[1], parts[3], nil
}

func toProto(n notice) *notifierv1.Notice {
	p := &notifierv1.Notice{
		Name:           noticeName(n),
		Kind:           kindToProto(n.kind),
		State:          n.state.toProto(),
		Agent:          resource.AgentName{Account: n.account, Agent: n.agent}.String(),
		Email:          n.email,
		DisplayName:    n.displayName,
		EventId:        n.eventID,
		CreateTime:     timestamp(n.createTime),
		UpdateTime:     timestamp(n.updateTime),
		FailedAttempts: int32(n.failedAttempts), //nolint:gosec // grows by one every half hour at most
		LastError:      n.lastError,
	}
	if n.state == stateRetrying {
		p.NextAttemptTime = timestamp(n.nextAttemptTime)
	}
	return p
}

func (s state) toProto() notifierv1.Notice_State {
	return notifierv1.Notice_State(notifierv1.Notice_State_value[string(s)])
}

func kindToProto(k mail.Kind) notifierv1.Notice_Kind {
	return notifierv1.Notice_Kind(notifierv1.Notice_Kind_value[string(k)])
}

// timestamp is absent for a time that is not set.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
