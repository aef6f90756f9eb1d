package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/keyring"
)

// fastClock is a clock that is put forward, so that nobody waits for the next code.
type fastClock struct {
	// Whoever needs time to pass as it does elsewhere holds it for reading.
	sync.RWMutex
	ahead atomic.Int64
}

func (c *fastClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *fastClock) nextCode() {
	c.Lock()
	defer c.Unlock()
	c.ahead.Add(int64(30 * time.Second))
}

// rotated is an all-in-one whose keys are rotated, and the agents who sign in.
type rotated struct {
	running
	t       *testing.T
	dir     string
	metrics *prometheus.Registry
	clock   *fastClock
	people  []*keyholder
}

// keyholder is an agent with an app and recovery codes.
type keyholder struct {
	email, secret string
	codes         []string
}

func startRotated(t *testing.T) *rotated {
	t.Helper()
	// Should a signal come when no suite listens.
	_, stopHangups := app.Hangups()
	t.Cleanup(stopHangups)
	r := &rotated{t: t, dir: t.TempDir(), metrics: app.NewRegistry(), clock: &fastClock{}}
	config, err := app.LoadConfig([]string{
		"TWOFOLD_HTTP_ADDR=127.0.0.1:0", "TWOFOLD_GRPC_ADDR=127.0.0.1:0", "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_DATA_DIR=" + r.dir, "TWOFOLD_OPERATOR_TOKEN=" + operatorToken,
	})
	require.NoError(t, err)
	suite, err := allinone.Open(t.Context(), &app.Process{
		Config: config, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Metrics: r.metrics, Now: r.clock.now,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- suite.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	require.NoError(t, suite.AwaitReady(t.Context()))
	conn := dial(t, suite.GRPCAddr, nil, "")
	r.connect = func(string) grpc.ClientConnInterface { return conn }
	return r
}

func (r *rotated) keysFile() string { return filepath.Join(r.dir, "keys.json") }

func (r *rotated) keys() *keyring.Keyring {
	r.t.Helper()
	keys, err := keyring.Load(r.keysFile())
	require.NoError(r.t, err)
	return keys
}

// gather makes an account with agents who have set up.
func (r *rotated) gather() {
	r.t.Helper()
	ctx := bearer(r.t.Context(), operatorToken)
	_, err := authv1.NewAccountServiceClient(r.connect("auth")).CreateAccount(ctx, &authv1.CreateAccountRequest{
		AccountId: "acme", DisplayName: "Acme",
		Owner: &authv1.CreateAccountRequest_Owner{Email: "a@acme.example", DisplayName: "A", Password: password},
	})
	require.NoError(r.t, err)
	for _, email := range []string{"a@acme.example", "b@acme.example", "c@acme.example"} {
		if email != "a@acme.example" {
			_, err := authv1.NewAgentServiceClient(r.connect("auth")).CreateAgent(ctx, &authv1.CreateAgentRequest{
				Parent: "accounts/acme", Email: email, DisplayName: "Agent", Password: password,
			})
			require.NoError(r.t, err)
		}
		ctx := bearer(r.t.Context(), r.signIn(r.t, "acme", email, sessionv1.Client_WEB))
		profile := authv1.NewProfileServiceClient(r.connect("auth"))
		begun, err := profile.BeginEnrollment(ctx, &authv1.BeginEnrollmentRequest{})
		require.NoError(r.t, err)
		secret := begun.GetEnrollment().GetSecret()
		code, err := totp.GenerateCode(secret, r.clock.now())
		require.NoError(r.t, err)
		done, err := profile.ConfirmEnrollment(ctx, &authv1.ConfirmEnrollmentRequest{
			EnrollmentId: begun.GetEnrollment().GetEnrollmentId(), Code: code,
		})
		require.NoError(r.t, err)
		r.people = append(r.people, &keyholder{email: email, secret: secret, codes: done.GetRecoveryCodes()})
	}
}

// verify signs somebody in with an answer that is made once it is asked for.
func (r *rotated) verify(ctx context.Context, p *keyholder, answer func(*authv1.VerifySignInRequest) error) (token string, err error) {
	signIns := authv1.NewSignInServiceClient(r.connect("auth"))
	asked, err := signIns.SignIn(ctx, &authv1.SignInRequest{Account: "acme", Email: p.email, Password: password, Client: sessionv1.Client_WEB})
	if err != nil {
		return "", err
	}
	request := &authv1.VerifySignInRequest{SignInToken: asked.GetChallenge().GetSignInToken()}
	if err := answer(request); err != nil {
		return "", err
	}
	done, err := signIns.VerifySignIn(ctx, request)
	return done.GetSession().GetToken(), err
}

func (r *rotated) withApp(ctx context.Context, p *keyholder) error {
	_, err := r.verify(ctx, p, func(request *authv1.VerifySignInRequest) error {
		code, err := totp.GenerateCode(p.secret, r.clock.now())
		request.Answer = &authv1.VerifySignInRequest_TotpCode{TotpCode: code}
		return err
	})
	return err
}

// withRecoveryCode signs somebody in and uses a code up.
func (r *rotated) withRecoveryCode(p *keyholder) (token string) {
	r.t.Helper()
	token, err := r.verify(r.t.Context(), p, func(request *authv1.VerifySignInRequest) error {
		request.Answer = &authv1.VerifySignInRequest_RecoveryCode{RecoveryCode: p.codes[0]}
		return nil
	})
	require.NoError(r.t, err)
	p.codes = p.codes[1:]
	return token
}

// freshCodes gives everybody new recovery codes.
func (r *rotated) freshCodes() {
	r.t.Helper()
	for _, p := range r.people {
		r.clock.RLock() // a factor is fresh for five minutes
		made, err := authv1.NewProfileServiceClient(r.connect("auth")).RegenerateRecoveryCodes(
			bearer(r.t.Context(), r.withRecoveryCode(p)), &authv1.RegenerateRecoveryCodesRequest{})
		r.clock.RUnlock()
		require.NoError(r.t, err)
		p.codes = made.GetRecoveryCodes()
	}
}

// metric adds up what a metric is with these labels.
func (r *rotated) metric(name string, labels ...string) (sum float64) {
	r.t.Helper()
	families, err := r.metrics.Gather()
	require.NoError(r.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetName()+"="+l.GetValue()] = true
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(label string) bool { return !has[label] }) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// hangUp has the suite look at its file, until what it says is true.
func (r *rotated) hangUp(is func() bool) {
	r.t.Helper()
	require.NoError(r.t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(r.t, is, 10*time.Second, time.Millisecond)
}

// reencrypt runs the command beside the suite.
func (r *rotated) reencrypt(program string) (code int, stdout string) {
	r.t.Helper()
	var out bytes.Buffer
	command := exec.CommandContext(r.t.Context(), program)
	command.Stdout, command.Stderr = &out, r.t.Output()
	command.Env = []string{"TWOFOLD_DATABASE_URL=sqlite:" + r.dir, "TWOFOLD_KEYS_FILE=" + r.keysFile()}
	err := command.Run()
	var exit *exec.ExitError
	require.True(r.t, err == nil || errors.As(err, &exit), "%v", err)
	return command.ProcessState.ExitCode(), out.String()
}

// The all-in-one makes its keys, for its owner alone; then they are rotated, step by
// step as docs/keys.md says, while agents sign in. Nobody notices.
func TestKeys_rotatedWhileAgentsSignIn(t *testing.T) {
	program := filepath.Join(t.TempDir(), "reencrypt")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/twofold-auth/twofold/services/auth/cmd/reencrypt").CombinedOutput()
	require.NoError(t, err, "%s", output)
	r := startRotated(t)
	info, err := os.Stat(r.keysFile())
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	r.gather()
	old := r.keys().Primary()

	var rounds atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.signInAgainAndAgain(ctx, &rounds) }()
	// everybodyAgain waits until all have signed in who begin after this.
	everybodyAgain := func() {
		t.Helper()
		want := rounds.Load() + 2
		require.Eventually(t, func() bool { return len(ended) > 0 || rounds.Load() >= want }, time.Minute, time.Millisecond)
		for _, p := range r.people {
			r.withRecoveryCode(p)
		}
		require.Empty(t, ended, "signing in has failed")
	}
	everybodyAgain()
	fresh, err := keyring.Add(r.keysFile(), "")
	require.NoError(t, err)
	r.hangUp(func() bool { return r.metric("twofold_keys_info", "key="+fresh) == 1 })
	everybodyAgain()
	require.NoError(t, keyring.Promote(r.keysFile(), fresh))
	r.hangUp(func() bool { return r.metric("twofold_keys_info", "key="+fresh, "primary=true") == 1 })
	everybodyAgain()
	code, said := r.reencrypt(program)
	require.Zero(t, code, said)
	require.Regexp(t, `(?m)^TOTP secrets +`+fresh+` +3 +0 *$`, said)
	require.Regexp(t, `(?m)^`+old+`: needed by \d+ recovery codes$`, said)
	everybodyAgain()
	r.freshCodes()
	code, said = r.reencrypt(program)
	require.Zero(t, code, said)
	require.Contains(t, said, old+": nothing is under it\n")
	require.NoError(t, keyring.Remove(r.keysFile(), old))
	r.hangUp(func() bool { return r.metric("twofold_keys_info", "key="+old) == 0 })
	everybodyAgain()

	require.NoError(t, os.WriteFile(r.keysFile(), []byte("{"), 0o600))
	r.hangUp(func() bool { return r.metric("twofold_keys_reload_failures_total") > 0 })
	everybodyAgain()
	stop()
	require.NoError(t, <-ended)
}

// signInAgainAndAgain signs everybody in with their apps, round after round.
func (r *rotated) signInAgainAndAgain(ctx context.Context, rounds *atomic.Int64) error {
	calls := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		r.clock.nextCode()
		for _, p := range r.people {
			if err := r.withApp(calls, p); err != nil {
				return err
			}
		}
		rounds.Add(1)
	}
	return nil
}
