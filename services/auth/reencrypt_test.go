package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

var nextKey = keyring.Key{Name: "k2", Secret: []byte("the next key of the auth service, for testing")[:32]}

func firstKey() keyring.Key {
	return keyring.Key{Name: "k1", Secret: []byte("a key of the auth service, for testing only")[:32]}
}

// promote makes k2 primary and keeps k1.
func (s *suite) promote() {
	s.t.Helper()
	require.NoError(s.t, s.keys.Replace("k2", firstKey(), nextKey))
}

// reencrypt makes everything anew that is under an older key, and says how much was.
func (s *suite) reencrypt() (renewed int64) {
	s.t.Helper()
	byKind := map[string]int64{}
	require.NoError(s.t, auth.NewReencryption(s.db, s.keys).Run(s.t.Context(), func(p auth.ReencryptionProgress) {
		byKind[p.Kind] = p.Renewed
	}))
	for _, n := range byKind {
		renewed += n
	}
	return renewed
}

// underKeys says what is under which key: "TOTP secrets k1" and how many.
func (s *suite) underKeys() map[string]int64 {
	s.t.Helper()
	found := map[string]int64{}
	for _, use := range s.uses() {
		found[use.Kind+" "+use.Key] = use.Values
	}
	return found
}

func (s *suite) uses() []auth.KeyUse {
	s.t.Helper()
	uses, err := auth.NewReencryption(s.db, s.keys).Count(s.t.Context())
	require.NoError(s.t, err)
	return uses
}

// waiting makes a sign-in of an agent that waits for a second factor.
func (s *suite) waiting(ctx context.Context, email string) (token string, err error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	token = "tfi1_" + base64.RawURLEncoding.EncodeToString(raw)
	sum := sha256.Sum256([]byte(token))
	_, err = s.db.Exec(ctx, `INSERT INTO sign_ins (id, agent_id, agent_version, step, first_factor, client_kind, user_agent, address,
		keep_me_logged_in, failures, create_time, expire_time)
		SELECT ?, id, version, 'CHALLENGE', 'PASSWORD', 'WEB', '', '', FALSE, 0, 1, ? FROM agents WHERE email_key = ?`,
		hex.EncodeToString(sum[:]), time.Now().Add(time.Hour).UnixMicro(), email)
	return token, err
}

// crowd is two copies of the service, which read one keys file, and agents who sign in
// through both, again and again. Everybody must get in each time.
type crowd struct {
	*world
	path   string
	rings  []*keyring.Keyring
	copies []authv1.SignInServiceClient

	emails []string
	phones []*phone
	done   []atomic.Int64 // sign-ins, by agent
	codes  []string       // the owner's recovery codes
}

func newCrowd(s *suite) *crowd {
	s.t.Helper()
	c := &crowd{path: filepath.Join(s.t.TempDir(), "keys.json"), emails: []string{"a@example.com", "b@example.com", "c@example.com", "d@example.com"}}
	require.NoError(s.t, keyring.Generate(c.path))
	for range 2 {
		keys, err := keyring.Load(c.path)
		require.NoError(s.t, err)
		c.rings = append(c.rings, keys)
	}
	s.keys = c.rings[0]
	c.world = s.world()
	s.keys = c.rings[1]
	c.copies = []authv1.SignInServiceClient{c.signIns(), authv1.NewSignInServiceClient(s.start().conn(""))}
	_, done := c.enrolled()
	c.codes = done.GetRecoveryCodes()
	for _, email := range c.emails {
		c.person(email)
		phone, _ := c.enrolledAs(email)
		c.phones = append(c.phones, phone)
	}
	c.done = make([]atomic.Int64, len(c.emails))
	return c
}

// signInUntil has all of them sign in until stopped ends, and returns then.
func (c *crowd) signInUntil(stopped context.Context) {
	ctx := context.WithoutCancel(stopped)
	var running sync.WaitGroup
	for i := range c.emails {
		running.Go(func() {
			for round := 0; stopped.Err() == nil; round++ {
				if err := c.signInOnce(ctx, i, c.copies[(i+round)%2]); err != nil {
					c.t.Errorf("sign-in %d of %s: %v", round, c.emails[i], err)
					return
				}
				c.done[i].Add(1)
			}
		})
	}
	running.Wait()
}

func (c *crowd) signInOnce(ctx context.Context, i int, through authv1.SignInServiceClient) error {
	// A code is good once for a step; here its use is forgotten again.
	_, err := c.s.db.Exec(ctx, `UPDATE factors SET last_step = 0 WHERE agent_id = (SELECT id FROM agents WHERE email_key = ?)`, c.emails[i])
	if err != nil {
		return err
	}
	token, err := c.s.waiting(ctx, c.emails[i])
	if err != nil {
		return err
	}
	_, err = through.VerifySignIn(ctx, &authv1.VerifySignInRequest{
		SignInToken: token, Answer: &authv1.VerifySignInRequest_TotpCode{TotpCode: c.phones[i].at(0)},
	})
	return err
}

// everybodyAgain waits until each has signed in, having begun after this call, and
// uses a recovery code at each copy, while there are any.
func (c *crowd) everybodyAgain(why string) {
	c.t.Helper()
	for i := range c.done {
		// The first may have begun before.
		want := c.done[i].Load() + 2
		require.Eventually(c.t, func() bool { return c.t.Failed() || c.done[i].Load() >= want }, time.Minute, time.Millisecond, why)
	}
	require.False(c.t, c.t.Failed(), why)
	if len(c.codes) == 0 {
		return
	}
	for _, through := range c.copies {
		token, err := c.s.waiting(c.t.Context(), ownerEmail)
		require.NoError(c.t, err)
		_, err = through.VerifySignIn(c.t.Context(), &authv1.VerifySignInRequest{
			SignInToken: token, Answer: &authv1.VerifySignInRequest_RecoveryCode{RecoveryCode: c.codes[0]},
		})
		require.NoError(c.t, err, why)
		c.codes = c.codes[1:]
	}
}

// step is a change of the file, which one copy reads and then the other.
func (c *crowd) step(why string, change func() error) {
	c.t.Helper()
	require.NoError(c.t, change())
	for _, keys := range c.rings {
		_, err := keys.Reload(c.path)
		require.NoError(c.t, err)
		c.everybodyAgain(why)
	}
}

// The rotation of docs/keys.md, while agents sign in, and one is setting up.
func TestRotation_whileAgentsSignIn(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		c := newCrowd(s)
		old := c.rings[0].Primary()
		c.person("late@example.com")
		late := c.signInAs("late@example.com").GetEnrollmentRequired().GetSignInToken()
		begun, err := c.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: late})
		require.NoError(t, err)
		stopped, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() { c.signInUntil(stopped) })

		c.step("add", func() error { _, err := keyring.Add(c.path, "new"); return err })
		c.step("promote", func() error { return keyring.Promote(c.path, "new") })
		require.Equal(t, int64(6), s.reencrypt(), "five factors, and one being set up")
		c.everybodyAgain("made anew")
		require.Zero(t, s.reencrypt(), "nothing is left to do")
		require.Equal(t, map[string]int64{
			"TOTP secrets new": 5, "TOTP secrets being set up new": 1, "recovery codes " + old: 40,
		}, s.underKeys())

		// Codes need the old key until they are gone.
		s.exec(`DELETE FROM recovery_codes`)
		require.Empty(t, c.codes)
		c.step("remove", func() error { return keyring.Remove(c.path, old) })
		_, err = c.signIns().ConfirmSignInEnrollment(t.Context(), &authv1.ConfirmSignInEnrollmentRequest{
			SignInToken: late, EnrollmentId: begun.GetEnrollment().GetEnrollmentId(),
			Code: c.phone(begun.GetEnrollment().GetSecret()).at(0),
		})
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"TOTP secrets new": 6, "recovery codes new": 10}, s.underKeys())
	})
}

// Somebody removed a key too early: nobody gets in, and nobody is told that a right
// code is wrong, or pays for it with a guess. Once it is back all is as it was.
func TestRotation_keyRemovedTooEarly_unavailable(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		require.NoError(t, s.keys.Replace("k2", nextKey))
		token := w.challenge()
		_, err := w.verify(token, phone.at(0))
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		testkit.RequireError(t, w.recover(token, done.GetRecoveryCodes()[0]), codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Zero(t, s.reencrypt(), "what cannot be read is left as it is")
		var unreadable []string
		for _, use := range s.uses() {
			if use.Unreadable > 0 {
				unreadable = append(unreadable, fmt.Sprintf("%d %s %s of %v", use.Unreadable, use.Kind, use.Key, use.Examples))
			}
		}
		require.Equal(t, []string{"1 TOTP secrets k1 of [" + w.owner + "]", "10 recovery codes k1 of [" + w.owner + "]"}, unreadable)

		require.NoError(t, s.keys.Replace("k2", nextKey, firstKey()))
		require.NoError(t, w.recover(token, done.GetRecoveryCodes()[0]))
		require.Equal(t, int64(1), s.reencrypt())
		_, err = w.verify(w.challenge(), phone.at(0))
		require.NoError(t, err)
	})
}

// manyFactors gives the owner n more factors under k1.
func (w *world) manyFactors(n int) {
	w.t.Helper()
	var id string
	require.NoError(w.t, w.s.db.QueryRow(w.t.Context(), `SELECT id FROM agents WHERE email_key = ?`, ownerEmail).Scan(&id))
	for i := range n {
		name := fmt.Sprintf("factor-%03d", i)
		w.s.exec(`INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time) VALUES (?, ?, 'TOTP', ?, 0, 0, 0)`,
			name, id, w.s.keys.Seal("totp-secret", fmt.Appendf(nil, "secret-%03d-of-20-bytes", i), "acme", id, name, "TOTP"))
	}
}

func TestReencryption_interrupted_goesOn(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.manyFactors(250)
		s.promote()
		ctx, cancel := context.WithCancel(t.Context())
		err := auth.NewReencryption(s.db, s.keys).Run(ctx, func(p auth.ReencryptionProgress) {
			if p.Renewed > 0 {
				require.Equal(t, auth.ReencryptionProgress{Kind: "TOTP secrets", Seen: 100, Renewed: 100, Total: 250}, p)
				cancel()
			}
		})
		require.Error(t, err)
		require.Equal(t, map[string]int64{"TOTP secrets k1": 150, "TOTP secrets k2": 100}, s.underKeys())

		// Two at once, and nothing is done twice.
		renewed := make([]int64, 2)
		var running sync.WaitGroup
		for i := range renewed {
			running.Go(func() { renewed[i] = s.reencrypt() })
		}
		running.Wait()
		require.Equal(t, int64(150), renewed[0]+renewed[1])
		require.Equal(t, map[string]int64{"TOTP secrets k2": 250}, s.underKeys())
	})
}

// A secret that a copy of the service changes just then is not overwritten.
func TestReencryption_changedMeanwhile_left(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.manyFactors(3)
		s.promote()
		locked, reading, written := make(chan struct{}), make(chan struct{}), make(chan int64, 1)
		go func() {
			<-locked
			var renewed int64
			err := auth.NewReencryption(s.db, s.keys).Run(t.Context(), func(p auth.ReencryptionProgress) {
				if p.Kind == "TOTP secrets" && p.Seen == 0 {
					close(reading)
				}
				renewed = max(renewed, p.Renewed)
			})
			if err != nil {
				t.Errorf("run: %v", err)
			}
			written <- renewed
		}()
		var once sync.Once
		require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Exec(ctx, `UPDATE factors SET secret = ? WHERE id = 'factor-001'`, []byte("another")); err != nil {
				return err
			}
			once.Do(func() { close(locked) })
			<-reading
			// It has read the old secret, and waits for this transaction to write.
			require.Never(t, func() bool { return len(written) > 0 }, 200*time.Millisecond, 10*time.Millisecond)
			return nil
		}))
		require.Equal(t, int64(2), <-written)
		var secret []byte
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT secret FROM factors WHERE id = 'factor-001'`).Scan(&secret))
		require.Equal(t, "another", string(secret))
	})
}

// What is damaged, or in another's place, is named and left alone.
func TestReencryption_unreadable_named(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.manyFactors(3)
		s.exec(`UPDATE factors SET secret = (SELECT k.secret FROM factors k WHERE k.id = 'factor-000') WHERE id = 'factor-001'`)
		s.exec(`UPDATE factors SET secret = ? WHERE id = 'factor-002'`, []byte("garbage"))
		s.promote()
		require.Equal(t, int64(1), s.reencrypt())
		require.Equal(t, []auth.KeyUse{
			{Kind: "TOTP secrets", Values: 1, Sealed: true, Unreadable: 1, Examples: []string{w.owner}},
			{Kind: "TOTP secrets", Key: "k1", Values: 1, Sealed: true, Unreadable: 1, Examples: []string{w.owner}},
			{Kind: "TOTP secrets", Key: "k2", Values: 1, Sealed: true},
		}, s.uses())
	})
}

// Keyed hashes say which key they need, and until when.
func TestReencryption_hashes_countedByKey(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.enrolled()
		_, err := w.agents().CreateAgent(asOperator(t.Context()), &authv1.CreateAgentRequest{
			Parent: "accounts/acme", Email: "ann@example.com", DisplayName: "Ann", Password: goodPassword, RequestId: "0192f0c2-0000-4000-8000-000000000001",
		})
		require.NoError(t, err)
		require.Error(t, w.try("192.0.2.1", ownerEmail, wrongPassword))
		s.promote()
		w.enrolledAs("ann@example.com")
		found := map[string]auth.KeyUse{}
		for _, use := range s.uses() {
			found[use.Kind+" "+use.Key] = use
		}
		require.Equal(t, int64(10), found["recovery codes k1"].Values)
		require.Equal(t, int64(1), found["recovery codes k1"].Agents)
		require.Equal(t, int64(10), found["recovery codes k2"].Values)
		require.WithinDuration(t, time.Now(), found["recovery codes k1"].Latest, time.Minute)
		require.Equal(t, int64(1), found["request ids k1"].Values)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), found["request ids k1"].Until, time.Minute)
		require.Equal(t, int64(2), found["counts of wrong passwords k1"].Values)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), found["counts of wrong passwords k1"].Until, time.Minute)

		s.exec(`UPDATE password_failures SET update_time = 1`)
		s.exec(`UPDATE request_ids SET create_time = 1`)
		require.NotContains(t, s.underKeys(), "counts of wrong passwords k1")
		require.NotContains(t, s.underKeys(), "request ids k1")
	})
}

// Nobody gets more guesses by a rotation, and a cool-down goes on.
func TestPasswordGuessing_countsOnUnderANewKey(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		guess := func() error { return w.try("192.0.2.1", ownerEmail, wrongPassword) }
		for range 6 {
			testkit.RequireError(t, guess(), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		s.promote()
		for range 4 {
			testkit.RequireError(t, guess(), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		testkit.RequireError(t, guess(), codes.ResourceExhausted, errs.ReasonTooManyAttempts)
		// A copy that does not know of the new primary key yet.
		require.NoError(t, s.keys.Replace("k1", firstKey(), nextKey))
		testkit.RequireError(t, guess(), codes.ResourceExhausted, errs.ReasonTooManyAttempts)

		// The right password clears all of it.
		s.exec(`UPDATE password_failures SET blocked_time = 1 WHERE blocked_time > 0`)
		require.NoError(t, w.try("192.0.2.1", ownerEmail, goodPassword))
		testkit.RequireError(t, guess(), codes.Unauthenticated, errs.ReasonInvalidCredentials)
	})
}

// A mail that is sent again after a rotation holds the link of the first.
func TestIssueLink_sameUnderANewKey(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		ada := w.agent("ada@example.com", authv1.Agent_AGENT).GetName()
		event := s.promised(ada, toJoin)
		first, err := w.mailed(ada, toJoin, event)
		require.NoError(t, err)
		s.promote()
		again, err := w.mailed(ada, toJoin, event)
		require.NoError(t, err)
		require.Equal(t, first.GetToken(), again.GetToken())

		// The key is gone before the link is: it can be told no more, but used.
		require.NoError(t, s.keys.Replace("k2", nextKey))
		require.NoError(t, w.accept(first.GetToken(), goodPassword))
	})
}
