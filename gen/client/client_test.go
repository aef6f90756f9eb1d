package client_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/twofold-auth/twofold/gen/client"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

const (
	session  = "spiffe://twofold/session"
	platform = "spiffe://twofold/platform"
)

// dial connects to servers as if one name resolved to all of them.
func dial(t *testing.T, files client.Files, servers ...*server) sessionv1.SessionServiceClient {
	t.Helper()
	names := manual.NewBuilderWithScheme("test")
	var state resolver.State
	for _, s := range servers {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: s.addr}}})
	}
	names.InitialState(state)
	conn, err := client.Dial("test:///session", "session", files, grpc.WithResolvers(names))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return sessionv1.NewSessionServiceClient(conn)
}

func validate(ctx context.Context, sessions sessionv1.SessionServiceClient) (string, error) {
	answer, err := sessions.ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: "t"})
	return answer.GetSession().GetAgent(), err
}

func TestDial_checksTheIdentityOfTheServer(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	files := ours.files(t.TempDir(), ours.issue(platform))
	if _, err := validate(t.Context(), dial(t, files, ours.serve(session))); err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]*server{
		"another service":   ours.serve("spiffe://twofold/policy"),
		"a longer name":     ours.serve(session + "-2"),
		"another domain":    ours.serve("spiffe://elsewhere/session"),
		"a query":           ours.serve(session + "?x"),
		"two identities":    ours.serve(session, "spiffe://twofold/policy"),
		"no identity":       ours.serve(),
		"another authority": theirs.serve(session),
	} {
		t.Run(name, func(t *testing.T) {
			wrong.validate = func(context.Context) error { t.Error("the call arrived"); return nil }
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := validate(ctx, dial(t, files, wrong)); err == nil || !strings.Contains(err.Error(), "client: ") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestDial_saysWhatIsWrongWithItsFiles(t *testing.T) {
	a := newAuthority(t)
	files := a.files(t.TempDir(), a.issue(platform))
	for name, change := range map[string]func(*client.Files){
		"no certificate": func(f *client.Files) { f.Cert += "x" },
		"no authority":   func(f *client.Files) { f.CA += "x" },
		"no PEM":         func(f *client.Files) { f.CA = os.Args[0] },
	} {
		t.Run(name, func(t *testing.T) {
			broken := files
			change(&broken)
			if conn, err := client.Dial("session:9090", "session", broken); err == nil {
				t.Fatal(conn.Target())
			}
		})
	}
	if conn, err := client.Dial("session:9090", "", files); err == nil {
		t.Fatal(conn.Target())
	}
}

// A new connection is made with the files as they are then.
func TestDial_readsTheFilesAtEachHandshake(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	files := before.files(dir, before.issue(platform))
	server := after.serve(session)
	sessions := dial(t, files, server)
	after.files(dir, after.issue(platform))
	if _, err := validate(t.Context(), sessions); err != nil {
		t.Fatal(err)
	}
}

func TestDial_repeatsReadsAndNothingElse(t *testing.T) {
	a := newAuthority(t)
	s := a.serve(session)
	var reads, writes atomic.Int32
	s.validate = func(context.Context) error {
		if reads.Add(1) < 3 {
			return status.Error(codes.Unavailable, "a replica stops")
		}
		return nil
	}
	s.revoke = func(context.Context) error { writes.Add(1); return status.Error(codes.Unavailable, "a replica stops") }
	sessions := dial(t, a.files(t.TempDir(), a.issue(platform)), s)
	if _, err := validate(t.Context(), sessions); err != nil || reads.Load() != 3 {
		t.Fatal(reads.Load(), err)
	}
	_, err := sessions.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{})
	if status.Code(err) != codes.Unavailable || writes.Load() != 1 {
		t.Fatal(writes.Load(), err)
	}
}

func TestDial_givesCallsADeadline(t *testing.T) {
	a := newAuthority(t)
	s := a.serve(session)
	s.validate = func(ctx context.Context) error {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > 2*time.Second {
			return errors.New("no deadline")
		}
		return nil
	}
	if _, err := validate(t.Context(), dial(t, a.files(t.TempDir(), a.issue(platform)), s)); err != nil {
		t.Fatal(err)
	}
}

func TestDial_spreadsCallsOverHealthyReplicas(t *testing.T) {
	a := newAuthority(t)
	first, second := a.serve(session), a.serve(session)
	sessions := dial(t, a.files(t.TempDir(), a.issue(platform)), first, second)
	// answered waits until the replicas that answer ten calls in a row are these.
	answered := func(want ...*server) {
		t.Helper()
		for ctx, ends := t.Context(), time.Now().Add(10*time.Second); ; {
			seen := map[string]bool{}
			for range 10 {
				agent, err := validate(ctx, sessions)
				if err != nil {
					t.Fatal(err)
				}
				seen[agent] = true
			}
			all := len(seen) == len(want)
			for _, s := range want {
				all = all && seen[s.addr]
			}
			if all {
				return
			}
			if time.Now().After(ends) {
				t.Fatalf("answered by %v", seen)
			}
		}
	}
	answered(first, second)
	first.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	answered(second)
	first.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	answered(first, second)
}

func TestReason(t *testing.T) {
	info := func(domain string) error {
		st, err := status.New(codes.Unauthenticated, "Signed out.").WithDetails(&errdetails.ErrorInfo{Reason: "SESSION_REVOKED", Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for want, errs := range map[string][]error{
		"SESSION_REVOKED": {info("twofold")},
		"":                {nil, errors.New("x"), status.Error(codes.Unavailable, "x"), info("example.com")},
	} {
		for _, err := range errs {
			if got := client.Reason(err); got != want {
				t.Errorf("%v: got %q", err, got)
			}
		}
	}
}
