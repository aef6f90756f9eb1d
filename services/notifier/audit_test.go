package notifier_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
	"github.com/twofold-auth/twofold/services/notifier"
)

// The tables of the audit log are as package audit wants them.
func TestMigrations_holdTheSchemaOfTheAuditLog(t *testing.T) {
	for file, schema := range map[string]string{
		"0002_audit.postgres.sql": audit.ImmutablePostgres,
		"0002_audit.sqlite.sql":   audit.ImmutableSQLite,
	} {
		migration, err := fs.ReadFile(notifier.Migrations(), file)
		require.NoError(t, err)
		require.Contains(t, string(migration), audit.Schema, file)
		require.Contains(t, string(migration), schema, file)
	}
}

// trail returns the audit events of an account, the oldest first, as the gateway
// reads them; and sees that their chain holds.
func (p *process) trail(account string) []*auditv1.AuditEvent {
	p.s.t.Helper()
	client := auditv1.NewAuditTrailServiceClient(p.server.Conn("gateway"))
	resp, err := client.ListAuditTrail(p.s.t.Context(), &auditv1.ListAuditTrailRequest{Account: account, PageSize: 1000})
	require.NoError(p.s.t, err)
	events := make([]*auditv1.AuditEvent, len(resp.GetAuditEvents()))
	for i, e := range resp.GetAuditEvents() {
		events[len(events)-1-i] = e
	}
	head, broken, err := audit.Verify(p.s.t.Context(), p.s.db, account)
	require.NoError(p.s.t, err)
	require.Nil(p.s.t, broken)
	require.EqualValues(p.s.t, len(events), head.Sequence)
	return events
}

// One event for each notice that is sent again, and for each call that is refused.
func TestAudit_resending(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		s.sink.Script(address("acme", 2), mailsink.Refuse(mailsink.AtRcpt, 550))
		p := s.start()
		s.publish(personal("acme", 1)["MFA_RESET"], personal("acme", 2)["MFA_RESET"])
		s.settled()
		people := p.as("gateway")
		self := &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: agentName("acme", 0)}
		operator := &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}
		count := 0
		resend := func(token, name, reason string, actor *eventv1.Actor) {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(with(t.Context(), token), authz.RequestIDKey, "req-1", authz.ClientAddressKey, "203.0.113.9")
			_, err := people.ResendNotice(ctx, &notifierv1.ResendNoticeRequest{Name: name})
			require.Equal(t, reason, errs.ReasonOf(err))
			count++
			events := p.trail("acme")
			require.Len(t, events, count)
			e := events[count-1]
			require.Equal(t, "notifier", e.GetService())
			require.Equal(t, "notice.resend", e.GetAction())
			require.Equal(t, reason, e.GetErrorReason())
			require.Truef(t, proto.Equal(actor, e.GetActor()), "%v", e.GetActor())
			require.Equal(t, "req-1", e.GetRequestId())
			require.Equal(t, "203.0.113.9", e.GetClientAddress())
			if reason != "" {
				require.Equal(t, auditv1.AuditEvent_DENIED, e.GetResult())
			} else {
				require.Equal(t, auditv1.AuditEvent_OK, e.GetResult())
				require.Equal(t, "MFA_RESET", e.GetDetails()["kind"])
				require.Regexp(t, "^"+strings.TrimSuffix(agentName("acme", 1), "1")+"[12]$", e.GetDetails()["agent"])
			}
			if strings.HasPrefix(name, "accounts/") {
				require.Equal(t, name, e.GetSubject())
			} else {
				require.Empty(t, e.GetSubject())
			}
		}
		failed := p.notice(t.Context(), "agent="+agentName("acme", 1)).GetName()
		resend(plainAgent, failed, errs.ReasonCallerNotPermitted, self)
		resend(admin, failed, "", self)
		s.settled()
		resend(admin, failed, errs.ReasonNoticeNotResendable, self)
		resend(admin, "accounts/globex/notices/"+agentID(7), errs.ReasonResourceNotFound, self)
		resend(admin, "my password", errs.ReasonInvalidField, self)
		resend(operatorToken, "accounts/acme/notices/"+agentID(7), errs.ReasonResourceNotFound, operator)
		resend(operatorToken, p.notice(t.Context(), "state=FAILED").GetName(), "", operator)
		require.Empty(t, p.trail("globex"))

		// Of no account there is no log.
		s.auth.answers(func(_ context.Context, method string) error {
			if method == "GetAccount" {
				return errs.New(codes.NotFound, errs.ReasonResourceNotFound, "No.")
			}
			return nil
		})
		_, err := people.ResendNotice(with(t.Context(), operatorToken),
			&notifierv1.ResendNoticeRequest{Name: "accounts/nowhere/notices/" + agentID(7)})
		require.Equal(t, errs.ReasonResourceNotFound, errs.ReasonOf(err))
		require.Empty(t, p.trail("nowhere"))
	})
}
