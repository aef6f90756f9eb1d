package auth_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238 with SHA-1 is what every app does
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// clock is the clock of processes, which tests can put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// atStep puts the clock into the middle of a time step that is n after the
// present one, so that no test runs across a boundary.
func (c *clock) atStep(n int64) {
	now := c.Now()
	step := now.Unix()/30 + n
	c.advance(time.Unix(step*30+15, 0).Sub(now))
}

// world is an account acme with an owner who has a password.
type world struct {
	*process
	t     *testing.T
	owner string // resource name

	anybody *grpc.ClientConn // without a certificate
	gateway *grpc.ClientConn
}

const ownerEmail = "olga@example.com"

func (s *suite) world() *world {
	s.t.Helper()
	s.sessions.made.now = s.clock.Now
	p := s.start()
	made, err := p.accounts().CreateAccount(asOperator(s.t.Context()), newAccount())
	require.NoError(s.t, err)
	return &world{
		process: p, t: s.t, owner: made.GetAccount().GetOwner(), anybody: p.conn(""), gateway: p.conn("gateway"),
	}
}

// person makes an agent with a password.
func (w *world) person(email string) {
	w.t.Helper()
	_, err := w.agents().CreateAgent(asOperator(w.t.Context()), &authv1.CreateAgentRequest{
		Parent: "accounts/acme", Email: email, DisplayName: "Named " + email, Password: goodPassword,
	})
	require.NoError(w.t, err)
}

func (w *world) enforce() {
	w.s.policies.set(enforcement.Settings{Enforced: true, GracePeriod: time.Hour}, time.Now())
}

func (w *world) lift() {
	w.s.policies.set(enforcement.Settings{GracePeriod: time.Hour}, time.Time{})
}

func (w *world) signIns() authv1.SignInServiceClient {
	return authv1.NewSignInServiceClient(w.anybody)
}

func (w *world) profile() authv1.ProfileServiceClient {
	return authv1.NewProfileServiceClient(w.anybody)
}

// from returns a context for a call through the gateway from an address; use it
// with behind.
func from(ctx context.Context, address string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, authz.ClientAddressKey, address)
}

// behind are the sign-ins of people behind the gateway.
func (w *world) behind() authv1.SignInServiceClient { return authv1.NewSignInServiceClient(w.gateway) }

func signInRequest() *authv1.SignInRequest {
	return &authv1.SignInRequest{
		Account: "acme", Email: ownerEmail, Password: goodPassword, Client: sessionv1.Client_WEB,
	}
}

func (w *world) signIn() *authv1.SignInResponse {
	w.t.Helper()
	return w.signInAs(ownerEmail)
}

func (w *world) signInAs(email string) *authv1.SignInResponse {
	w.t.Helper()
	req := signInRequest()
	req.Email = email
	resp, err := w.signIns().SignIn(w.t.Context(), req)
	require.NoError(w.t, err)
	return resp
}

// challenge begins a sign-in that asks for a second factor.
func (w *world) challenge() string {
	w.t.Helper()
	token := w.signIn().GetChallenge().GetSignInToken()
	require.NotEmpty(w.t, token)
	return token
}

func (w *world) verify(token, code string) (*sessionv1.Session, error) {
	resp, err := w.signIns().VerifySignIn(w.t.Context(), &authv1.VerifySignInRequest{
		SignInToken: token, Answer: &authv1.VerifySignInRequest_TotpCode{TotpCode: code},
	})
	return resp.GetSession(), err
}

func (w *world) recover(token, code string) error {
	_, err := w.signIns().VerifySignIn(w.t.Context(), &authv1.VerifySignInRequest{
		SignInToken: token, Answer: &authv1.VerifySignInRequest_RecoveryCode{RecoveryCode: code},
	})
	return err
}

// phone is somebody's authenticator app, written from RFC 6238 and sharing
// nothing with the code under test.
type phone struct {
	t      *testing.T
	secret []byte
	clock  *clock
}

func (w *world) phone(base32Secret string) *phone {
	w.t.Helper()
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(base32Secret)
	require.NoError(w.t, err)
	return &phone{t: w.t, secret: secret, clock: w.s.clock}
}

// at returns the code of a step that is n after the present one.
func (p *phone) at(n int64) string {
	mac := hmac.New(sha1.New, p.secret)
	require.NoError(p.t, binary.Write(mac, binary.BigEndian, p.clock.Now().Unix()/30+n))
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// wrong returns a code that no step near the present has.
func (p *phone) wrong() string { return p.wrongs(1)[0] }

// wrongs returns n different codes that no step near the present has.
func (p *phone) wrongs(n int) (all []string) {
	near := map[string]bool{}
	for i := int64(-50); i <= 50; i++ {
		near[p.at(i)] = true
	}
	for i := 0; len(all) < n; i++ {
		if code := fmt.Sprintf("%06d", i); !near[code] {
			all = append(all, code)
		}
	}
	return all
}

// enrolled signs the owner in to an account that enforces, up to the session. The
// phone's present step is used, so the clock then moves on by one.
func (w *world) enrolled() (*phone, *authv1.ConfirmSignInEnrollmentResponse) {
	w.t.Helper()
	return w.enrolledAs(ownerEmail)
}

func (w *world) enrolledAs(email string) (*phone, *authv1.ConfirmSignInEnrollmentResponse) {
	w.t.Helper()
	w.enforce()
	w.s.clock.atStep(0)
	token := w.signInAs(email).GetEnrollmentRequired().GetSignInToken()
	begun, err := w.signIns().BeginSignInEnrollment(w.t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: token})
	require.NoError(w.t, err)
	phone := w.phone(begun.GetEnrollment().GetSecret())
	done, err := w.signIns().ConfirmSignInEnrollment(w.t.Context(), &authv1.ConfirmSignInEnrollmentRequest{
		SignInToken: token, EnrollmentId: begun.GetEnrollment().GetEnrollmentId(), Code: phone.at(0),
	})
	require.NoError(w.t, err)
	w.s.clock.atStep(2)
	return phone, done
}

// challenges keeps n sign-ins of the owner that wait for a second factor, as if
// the password had been given n times, which would take long.
func (w *world) challenges(n int) (tokens []string) {
	w.t.Helper()
	for range n {
		raw := make([]byte, 32)
		_, _ = rand.Read(raw)
		token := "tfi1_" + base64.RawURLEncoding.EncodeToString(raw)
		sum := sha256.Sum256([]byte(token))
		w.s.exec(`INSERT INTO sign_ins (id, agent_id, agent_version, step, first_factor, client_kind, user_agent, address,
			keep_me_logged_in, failures, create_time, expire_time)
			SELECT ?, id, version, 'CHALLENGE', 'PASSWORD', 'WEB', '', '', FALSE, 0, 1, ? FROM agents WHERE email_key = ?`,
			hex.EncodeToString(sum[:]), time.Now().Add(time.Hour).UnixMicro(), ownerEmail)
		tokens = append(tokens, token)
	}
	return tokens
}

// cooledDown lets every cool-down be over.
func (w *world) cooledDown() { w.s.exec(`UPDATE factor_failures SET blocked_time = 1`) }

// retryAfter returns the delay that an error tells.
func retryAfter(t *testing.T, err error) time.Duration {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// reasons counts errors by their reasons; nil is OK.
func reasons(all []error) map[string]int {
	counted := map[string]int{}
	for _, err := range all {
		reason := "OK"
		if err != nil {
			reason = errs.ReasonOf(err)
		}
		counted[reason]++
	}
	return counted
}

// atOnce calls n functions at the same time and returns their errors.
func atOnce(n int, call func(i int) error) []error {
	all := make([]error, n)
	start := make(chan struct{})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			<-start
			all[i] = call(i)
		})
	}
	close(start)
	calls.Wait()
	return all
}

// lockedBuffer is a buffer for loggers of several goroutines.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// dump returns everything in the tables that hold something of people.
func (s *suite) dump() string {
	s.t.Helper()
	var out strings.Builder
	for _, table := range []string{
		"accounts", "agents", "passwords", "factors", "enrollments", "recovery_codes", "sign_ins", "factor_failures",
		"password_failures", "request_ids", "outbox", "links", "reset_requests", "reset_mails",
	} {
		rows, err := s.db.Query(s.t.Context(), `SELECT * FROM `+table)
		require.NoError(s.t, err)
		columns, err := rows.Columns()
		require.NoError(s.t, err)
		for rows.Next() {
			row := make([]any, len(columns))
			for i := range row {
				row[i] = &row[i]
			}
			require.NoError(s.t, rows.Scan(row...))
			for _, value := range row {
				fmt.Fprintf(&out, "%s %x\n", value, value)
			}
		}
		require.NoError(s.t, rows.Err())
		require.NoError(s.t, rows.Close())
	}
	return out.String()
}

// failures returns a counter of the owner.
func (w *world) failures(kind string) int64 {
	w.t.Helper()
	return w.s.number(`SELECT COALESCE(MAX(failures), 0) FROM factor_failures WHERE kind = ?`, kind)
}
