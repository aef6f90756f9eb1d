package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

var ada = &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: "accounts/acme/agents/ada", DisplayName: "Ada Admin"}

var errUndo = errors.New("undo")

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, open(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, open(t, testkit.Postgres(t))) })
}

func open(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), url, "policy")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	begin, end := "-- +goose Up\n-- +goose StatementBegin\n", "-- +goose StatementEnd\n"
	require.NoError(t, db.Migrate(t.Context(), fstest.MapFS{
		"0001_audit.sql":              {Data: []byte("-- +goose Up\n" + audit.Schema)},
		"0002_immutable.postgres.sql": {Data: []byte(begin + audit.ImmutablePostgres + end)},
		"0002_immutable.sqlite.sql":   {Data: []byte(begin + audit.ImmutableSQLite + end)},
	}))
	return db
}

// entry is an event about an agent.
func entry(account string, i int) audit.Entry {
	return audit.Entry{
		Account: account, Actor: ada, Action: "agent.resetMfa", Subject: fmt.Sprintf("accounts/%s/agents/%d", account, i),
		Details: map[string]string{"reason": "lost phone", "number": strconv.Itoa(i)},
	}
}

func appendEntry(t *testing.T, db *sqldb.DB, e audit.Entry) {
	t.Helper()
	require.NoError(t, tryAppend(t.Context(), db, e))
}

func tryAppend(ctx context.Context, db *sqldb.DB, e audit.Entry) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return audit.Append(ctx, tx, e) })
}

// served is the AuditTrailService as a server would call it.
type served struct {
	auditv1.AuditTrailServiceServer
}

func (s *served) RegisterService(_ *grpc.ServiceDesc, impl any) {
	s.AuditTrailServiceServer, _ = impl.(auditv1.AuditTrailServiceServer)
}

func list(t *testing.T, db *sqldb.DB, req *auditv1.ListAuditTrailRequest) []*auditv1.AuditEvent {
	t.Helper()
	var s served
	audit.Register(&s, db)
	resp, err := s.ListAuditTrail(t.Context(), req)
	require.NoError(t, err)
	return resp.GetAuditEvents()
}

func verify(t *testing.T, db *sqldb.DB, account string, known ...audit.Head) (audit.Head, *audit.Broken) {
	t.Helper()
	head, broken, err := audit.Verify(t.Context(), db, account, known...)
	require.NoError(t, err)
	return head, broken
}

// exec runs a statement as somebody who may drop triggers.
func exec(t *testing.T, db *sqldb.DB, statement string, args ...any) {
	t.Helper()
	_, err := db.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
}

func unprotect(t *testing.T, db *sqldb.DB) {
	t.Helper()
	if db.Dialect() == "postgres" {
		exec(t, db, `DROP FUNCTION audit_append_only() CASCADE`)
		return
	}
	for _, trigger := range []string{"events_no_update", "events_no_delete", "events_no_replace", "chains_no_delete"} {
		exec(t, db, `DROP TRIGGER audit_`+trigger)
	}
}

func TestAppend_tellsWhatTheCallKnows(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		ctx := authz.NewContext(t.Context(), &authz.Caller{
			RequestID: "req-1", ClientAddress: netip.MustParseAddr("2001:db8::7"),
		})
		require.NoError(t, tryAppend(ctx, db, entry("acme", 1)))
		denied := entry("acme", 2)
		denied.Denied, denied.Actor = errs.ReasonCannotResetSelf, nil
		denied.Details = map[string]string{"a\x00b": "\xff", "long": strings.Repeat("é", 5000)}
		appendEntry(t, db, denied)

		found := list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"})
		require.Len(t, found, 2)
		second, first := found[0], found[1]
		require.Equal(t, "accounts/acme/auditEvents/policy-1", first.GetName())
		require.Equal(t, "policy", first.GetService())
		require.Equal(t, int64(1), first.GetSequence())
		require.Equal(t, strings.Repeat("0", 64), first.GetPreviousHash())
		require.WithinDuration(t, time.Now(), first.GetEventTime().AsTime(), time.Minute)
		require.Equal(t, ada.GetName(), first.GetActor().GetName())
		require.Equal(t, ada.GetDisplayName(), first.GetActor().GetDisplayName())
		require.Equal(t, ada.GetKind(), first.GetActor().GetKind())
		require.Equal(t, "agent.resetMfa", first.GetAction())
		require.Equal(t, "accounts/acme/agents/1", first.GetSubject())
		require.Equal(t, auditv1.AuditEvent_OK, first.GetResult())
		require.Equal(t, "2001:db8::7", first.GetClientAddress())
		require.Equal(t, "req-1", first.GetRequestId())
		require.Equal(t, map[string]string{"reason": "lost phone", "number": "1"}, first.GetDetails())

		require.Equal(t, first.GetHash(), second.GetPreviousHash())
		require.Equal(t, auditv1.AuditEvent_DENIED, second.GetResult())
		require.Equal(t, errs.ReasonCannotResetSelf, second.GetErrorReason())
		require.Equal(t, eventv1.Actor_KIND_UNSPECIFIED, second.GetActor().GetKind())
		require.Equal(t, "\uFFFD", second.GetDetails()["a\uFFFDb"])
		require.Len(t, second.GetDetails()["long"], 2048)

		head, broken := verify(t, db, "acme")
		require.Nil(t, broken)
		require.Equal(t, audit.Head{Service: "policy", Account: "acme", Sequence: 2, Hash: second.GetHash()}, head)
		_, broken = verify(t, db, "nobody")
		require.Nil(t, broken)
	})
}

// What docs/audit.md says of the hash, done by hand from what the API shows.
func TestHash_isAsDocumented(t *testing.T) {
	db := open(t, testkit.SQLite(t))
	appendEntry(t, db, entry("acme", 1))
	appendEntry(t, db, entry("acme", 2))
	for _, e := range list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"}) {
		h := sha256.New()
		for _, word := range []string{
			"twofold-audit-v1", e.GetService(), "acme", strconv.FormatInt(e.GetSequence(), 10), e.GetPreviousHash(),
			strconv.FormatInt(e.GetEventTime().AsTime().UnixMicro(), 10),
			e.GetActor().GetKind().String(), e.GetActor().GetName(), e.GetActor().GetDisplayName(),
			e.GetAction(), e.GetSubject(), e.GetResult().String(), e.GetErrorReason(), e.GetClientAddress(), e.GetRequestId(),
			"2", "number", e.GetDetails()["number"], "reason", e.GetDetails()["reason"],
		} {
			require.NoError(t, binary.Write(h, binary.BigEndian, uint32(len(word))))
			_, _ = h.Write([]byte(word))
		}
		require.Equal(t, hex.EncodeToString(h.Sum(nil)), e.GetHash())
	}
}

func TestAppend_belongsToTheChange(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			require.NoError(t, audit.Append(ctx, tx, entry("acme", 1)))
			return errUndo
		})
		require.ErrorIs(t, err, errUndo)
		require.Empty(t, list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"}))
		appendEntry(t, db, entry("acme", 1))
		_, broken := verify(t, db, "acme")
		require.Nil(t, broken)

		for _, bad := range []audit.Entry{{Action: "x"}, {Account: "acme"}, {Account: "a/b", Action: "x"}} {
			require.Error(t, tryAppend(t.Context(), db, bad))
		}
	})
}

// Many at once, some of which are undone: one chain, without a fork or a gap.
func TestAppend_inParallelIsLinear(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		const appends, undone = 200, 40
		var running sync.WaitGroup
		problems := make(chan error, appends+undone)
		for i := range appends + undone {
			running.Go(func() {
				problems <- db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					if err := audit.Append(ctx, tx, entry("acme", i)); err != nil {
						return err
					}
					if i >= appends {
						return errUndo
					}
					return nil
				})
			})
		}
		running.Wait()
		close(problems)
		for err := range problems {
			if !errors.Is(err, errUndo) {
				require.NoError(t, err)
			}
		}
		head, broken := verify(t, db, "acme")
		require.Nil(t, broken)
		require.Equal(t, int64(appends), head.Sequence)
		seen := map[string]bool{}
		for _, e := range list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme", PageSize: 1000}) {
			seen[e.GetSubject()] = true
		}
		require.Len(t, seen, appends)
	})
}

// A clock that is set back does not turn the order around.
func TestAppend_timeNeverGoesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		appendEntry(t, db, entry("acme", 1))
		ahead := time.Now().Add(time.Hour).UnixMicro()
		exec(t, db, `UPDATE audit_chains SET event_time = ?`, ahead)
		appendEntry(t, db, entry("acme", 2))
		found := list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"})
		require.Equal(t, ahead, found[0].GetEventTime().AsTime().UnixMicro())
		require.Equal(t, int64(2), found[0].GetSequence())
		_, broken := verify(t, db, "acme")
		require.Nil(t, broken)
	})
}

func TestTriggers_refuseEveryChange(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		appendEntry(t, db, entry("acme", 1))
		statements := []string{
			`UPDATE audit_events SET action = 'x'`, `UPDATE audit_events SET hash = hash`,
			`DELETE FROM audit_events`, `DELETE FROM audit_chains`,
		}
		if db.Dialect() == "postgres" {
			statements = append(statements, `TRUNCATE audit_events`, `TRUNCATE audit_chains`)
		} else {
			statements = append(statements, `INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events`)
		}
		for _, statement := range statements {
			_, err := db.Exec(t.Context(), statement)
			require.ErrorContains(t, err, "the audit log is append-only", statement)
		}
		require.Len(t, list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"}), 1)
	})
}

// Every column, every kind of change: the first event that is not as it was
// written is named.
func TestVerify_namesTheFirstBrokenEvent(t *testing.T) {
	edits := map[string]string{
		"previous_hash": `hash`, "hash": `previous_hash`, "event_time": `event_time - 1`,
	}
	for _, column := range []string{
		"actor_kind", "actor_name", "actor_display_name", "action", "subject", "error_reason", "client_address", "request_id",
	} {
		edits[column] = column + ` || 'x'`
	}
	edits["result"], edits["details"] = `'DENIED'`, `'{"reason":"stolen phone","number":"3"}'`
	type tampering struct {
		what, statement string
		broken          int64
	}
	var all []tampering
	for column, value := range edits {
		all = append(all, tampering{
			"edit " + column, `UPDATE audit_events SET ` + column + ` = ` + value + ` WHERE account = 'acme' AND sequence = 3`, 3,
		})
	}
	all = append(all,
		tampering{"delete one", `DELETE FROM audit_events WHERE account = 'acme' AND sequence = 3`, 3},
		tampering{"delete the first", `DELETE FROM audit_events WHERE account = 'acme' AND sequence = 1`, 1},
		tampering{"delete the last", `DELETE FROM audit_events WHERE account = 'acme' AND sequence = 5`, 5},
		tampering{"delete all", `DELETE FROM audit_events WHERE account = 'acme'`, 1},
		tampering{"move the end", `UPDATE audit_chains SET sequence = 4 WHERE account = 'acme'`, 5},
		tampering{"change the end", `UPDATE audit_chains SET hash = (SELECT hash FROM audit_events WHERE account = 'acme' AND sequence = 1)
			WHERE account = 'acme'`, 5},
		tampering{"forget the end", `DELETE FROM audit_chains WHERE account = 'acme'`, 1},
		tampering{"renumber", `UPDATE audit_events SET sequence = 6 WHERE account = 'acme' AND sequence = 3`, 3},
		tampering{"add one", `INSERT INTO audit_events SELECT account, 6, hash, hash, event_time, actor_kind, actor_name, actor_display_name,
			action, subject, result, error_reason, client_address, request_id, details FROM audit_events WHERE account = 'acme' AND sequence = 5`, 6},
		tampering{"give to another account", `UPDATE audit_events SET account = 'globex', sequence = 3 WHERE account = 'acme' AND sequence = 3`, 3},
	)
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 5 {
			appendEntry(t, db, entry("acme", i+1))
		}
		appendEntry(t, db, entry("globex", 1))
		unprotect(t, db)
		exec(t, db, `CREATE TABLE kept AS SELECT * FROM audit_events`)
		exec(t, db, `CREATE TABLE ends AS SELECT * FROM audit_chains`)
		for _, c := range all {
			t.Run(c.what, func(t *testing.T) {
				exec(t, db, c.statement)
				_, broken := verify(t, db, "acme")
				require.NotNil(t, broken)
				require.Equal(t, c.broken, broken.Sequence, broken.String())
				require.Contains(t, broken.String(), fmt.Sprintf("accounts/acme/auditEvents/policy-%d: ", c.broken))

				for _, statement := range []string{
					`DELETE FROM audit_events`, `DELETE FROM audit_chains`,
					`INSERT INTO audit_events SELECT * FROM kept`, `INSERT INTO audit_chains SELECT * FROM ends`,
				} {
					exec(t, db, statement)
				}
				_, broken = verify(t, db, "acme")
				require.Nil(t, broken)
			})
		}
	})
}

// A chain whose end was cut off together with its head, or that was written anew
// from the start, is whole in itself. A head kept elsewhere finds it.
func TestVerify_comparesWithKnownHeads(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 3 {
			appendEntry(t, db, entry("acme", i+1))
		}
		third, _ := verify(t, db, "acme")
		appendEntry(t, db, entry("acme", 4))
		head, broken := verify(t, db, "acme", third)
		require.Nil(t, broken)
		require.Equal(t, int64(4), head.Sequence)
		_, broken = verify(t, db, "acme", third, head)
		require.Nil(t, broken)

		unprotect(t, db)
		exec(t, db, `DELETE FROM audit_events`)
		exec(t, db, `DELETE FROM audit_chains`)
		_, broken = verify(t, db, "acme")
		require.Nil(t, broken)
		_, broken = verify(t, db, "acme", third)
		require.Equal(t, int64(1), broken.Sequence)
		for i := range 4 {
			appendEntry(t, db, entry("acme", i+10))
		}
		_, broken = verify(t, db, "acme")
		require.Nil(t, broken)
		_, broken = verify(t, db, "acme", third)
		require.Equal(t, int64(3), broken.Sequence)
	})
}

func TestListAuditTrail_filtersAndGoesOn(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		operator := &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}
		for i := range 6 {
			e := entry("acme", i+1)
			if i%2 == 1 {
				e.Actor, e.Action = operator, "agent.create"
			}
			if i == 3 {
				e.Denied = errs.ReasonEmailTaken
			}
			appendEntry(t, db, e)
		}
		appendEntry(t, db, entry("globex", 1))
		all := list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme"})
		require.Len(t, all, 6)
		sequences := func(filter *auditv1.AuditFilter) (found []int64) {
			for _, e := range list(t, db, &auditv1.ListAuditTrailRequest{Account: "acme", Filter: filter}) {
				found = append(found, e.GetSequence())
			}
			return found
		}
		require.Equal(t, []int64{5, 3, 1}, sequences(&auditv1.AuditFilter{Actor: ada.GetName()}))
		require.Equal(t, []int64{6, 4, 2}, sequences(&auditv1.AuditFilter{Actor: "OPERATOR"}))
		require.Equal(t, []int64{6, 4, 2}, sequences(&auditv1.AuditFilter{Action: "agent.create"}))
		require.Equal(t, []int64{2}, sequences(&auditv1.AuditFilter{Subject: "accounts/acme/agents/2"}))
		require.Equal(t, []int64{4}, sequences(&auditv1.AuditFilter{Result: auditv1.AuditEvent_DENIED}))
		require.Equal(t, []int64{6, 2}, sequences(&auditv1.AuditFilter{Result: auditv1.AuditEvent_OK, Actor: "OPERATOR"}))
		require.Empty(t, sequences(&auditv1.AuditFilter{Actor: "'; DROP TABLE audit_events; --"}))

		third := all[3].GetEventTime() // of sequence 3
		var since, until []int64
		for _, e := range all {
			if e.GetEventTime().AsTime().Before(third.AsTime()) {
				until = append(until, e.GetSequence())
			} else {
				since = append(since, e.GetSequence())
			}
		}
		require.Equal(t, since, sequences(&auditv1.AuditFilter{StartTime: third}))
		require.Equal(t, until, sequences(&auditv1.AuditFilter{EndTime: third}))

		var paged []int64
		req := &auditv1.ListAuditTrailRequest{Account: "acme", PageSize: 2}
		for {
			page := list(t, db, req)
			for _, e := range page {
				paged = append(paged, e.GetSequence())
				req.BeforeTime, req.BeforeSequence = e.GetEventTime(), e.GetSequence()
			}
			if len(page) < 2 {
				break
			}
		}
		require.Equal(t, []int64{6, 5, 4, 3, 2, 1}, paged)

		var s served
		audit.Register(&s, db)
		_, err := s.ListAuditTrail(t.Context(), &auditv1.ListAuditTrailRequest{Account: "A/B"})
		require.Equal(t, errs.ReasonResourceNotFound, errs.ReasonOf(err))
		_, err = s.ListAuditTrail(t.Context(), &auditv1.ListAuditTrailRequest{
			Account: "acme", BeforeTime: &timestamppb.Timestamp{Nanos: -1},
		})
		require.Equal(t, codes.InvalidArgument, errs.From(err).Code())
	})
}
