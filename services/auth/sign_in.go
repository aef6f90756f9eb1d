package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// errSignInExpired answers for a sign-in that is unknown, over, used, at another
// step, or of an agent who was changed meanwhile: never said which.
var errSignInExpired = errs.New(codes.Unauthenticated, errs.ReasonSignInExpired,
	"This sign-in is over. Begin again with your password.")

// signInStep is what a sign-in waits for, as it is stored.
type signInStep string

const (
	stepChallenge  signInStep = "CHALLENGE"
	stepEnrollment signInStep = "ENROLLMENT"
)

// signIn is a sign-in between its first factor and its session.
type signIn struct {
	id           string // SHA-256 of the token
	agentID      string
	account      string // of the agent
	agentVersion int64
	step         signInStep
	firstFactor  sessionv1.Session_FirstFactor
	client       client
	failures     int
	expireTime   time.Time
}

// client is where and with what somebody signs in.
type client struct {
	kind           sessionv1.Client_Kind
	userAgent      string
	address        string
	keepMeLoggedIn bool
}

// maxUserAgent is in characters.
const maxUserAgent = 256

// gatewayIdentity is who may say for others what they call themselves, and may
// carry a sign-in token beside the request, because it took it from a cookie.
const gatewayIdentity = "gateway"

// clientOf reads what a call tells about where it comes from.
func clientOf(ctx context.Context, kind sessionv1.Client_Kind, keep bool) client {
	caller := authz.FromContext(ctx)
	key := "user-agent"
	if caller.Via == gatewayIdentity {
		key = authz.UserAgentKey
	}
	c := client{kind: kind, keepMeLoggedIn: keep}
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
		c.userAgent = printable(values[0], maxUserAgent)
	}
	if caller.ClientAddress.IsValid() {
		c.address = caller.ClientAddress.String()
	}
	return c
}

// printable returns text in one line that any database stores.
func printable(text string, limit int) string {
	kept := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
	runes := []rune(kept)
	return string(runes[:min(limit, len(runes))])
}

// A sign-in token is its prefix and 256 random bits. The prefix tells people who
// find one in a log what it is, and no session token has it.
const (
	signInTokenPrefix = "tfi1_"
	signInTokenBytes  = 32
)

func newSignInToken() string {
	raw := make([]byte, signInTokenBytes)
	_, _ = rand.Read(raw) // never fails: it ends the program instead (its documentation)
	return signInTokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// signInID is the name of a sign-in in the database, from which nobody gets back
// to the token.
func signInID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// signInOfCall returns the id of the sign-in that a call is about: by the token
// in its request, or by the one in its metadata if the gateway makes the call.
func signInOfCall(ctx context.Context, token string) (id string, err error) {
	if token == "" && authz.FromContext(ctx).Via == gatewayIdentity {
		if values := metadata.ValueFromIncomingContext(ctx, authz.SignInTokenKey); len(values) == 1 {
			token = values[0]
		}
	}
	encoded, ok := strings.CutPrefix(token, signInTokenPrefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(signInTokenBytes) {
		return "", errSignInExpired
	}
	return signInID(token), nil
}

// insertSignIn keeps a sign-in of an agent whose row the transaction has locked.
func insertSignIn(ctx context.Context, tx *sqldb.Tx, in signIn, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO sign_ins (id, agent_id, agent_version, step, first_factor, client_kind,
		user_agent, address, keep_me_logged_in, failures, create_time, expire_time)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)`,
		in.id, in.agentID, in.agentVersion, string(in.step), in.firstFactor.String(), in.client.kind.String(),
		in.client.userAgent, in.client.address, in.client.keepMeLoggedIn, sqldb.Micros(now), sqldb.Micros(in.expireTime))
	return storeError("insert a sign-in", err)
}

// selectSignIn returns a sign-in, or errSignInExpired.
func selectSignIn(ctx context.Context, q querier, id string) (signIn, error) {
	var in signIn
	var firstFactor, kind string
	var expires int64
	err := q.QueryRow(ctx, `SELECT s.id, s.agent_id, a.account, s.agent_version, s.step, s.first_factor, s.client_kind,
		s.user_agent, s.address, s.keep_me_logged_in, s.failures, s.expire_time
		FROM sign_ins s JOIN agents a ON a.id = s.agent_id WHERE s.id = ?`, id).
		Scan(&in.id, &in.agentID, &in.account, &in.agentVersion, &in.step, &firstFactor, &kind,
			&in.client.userAgent, &in.client.address, &in.client.keepMeLoggedIn, &in.failures, &expires)
	if errors.Is(err, sqldb.ErrNoRows) {
		return signIn{}, errSignInExpired
	}
	in.firstFactor = sessionv1.Session_FirstFactor(sessionv1.Session_FirstFactor_value[firstFactor])
	in.client.kind = sessionv1.Client_Kind(sessionv1.Client_Kind_value[kind])
	in.expireTime = sqldb.FromMicros(expires)
	return in, storeError("read a sign-in", err)
}

// lockSignIn locks the agent of a sign-in and returns both, if the sign-in waits
// for this step and nothing has happened to it or to the agent. Whoever changes
// either of them locks the agent first.
func lockSignIn(ctx context.Context, tx *sqldb.Tx, id string, step signInStep) (signIn, agent, time.Time, error) {
	found, err := selectSignIn(ctx, tx, id)
	if err != nil {
		return signIn{}, agent{}, time.Time{}, err
	}
	a, err := selectAgentByID(ctx, tx, found.agentID, tx.ForUpdate())
	if errors.Is(err, resource.ErrNotFound) {
		return signIn{}, agent{}, time.Time{}, errSignInExpired
	}
	if err != nil {
		return signIn{}, agent{}, time.Time{}, err
	}
	// Again, because somebody may have used it up while we waited for the lock.
	in, err := selectSignIn(ctx, tx, id)
	if err != nil {
		return signIn{}, agent{}, time.Time{}, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return signIn{}, agent{}, time.Time{}, err
	}
	if in.step != step || !now.Before(in.expireTime) || in.agentVersion != a.version || a.state != stateActive {
		return signIn{}, agent{}, time.Time{}, errSignInExpired
	}
	return in, a, now, nil
}

// deleteSignIn uses a sign-in up.
func deleteSignIn(ctx context.Context, tx *sqldb.Tx, id string) error {
	res, err := tx.Exec(ctx, `DELETE FROM sign_ins WHERE id = ?`, id)
	if err != nil {
		return storeError("delete a sign-in", err)
	}
	deleted, err := res.RowsAffected()
	if err != nil {
		return storeError("delete a sign-in", err)
	}
	if deleted != 1 {
		return errSignInExpired
	}
	return nil
}

// maxSignInFailures is how many wrong codes end a sign-in.
const maxSignInFailures = 5

// countSignInFailure counts a wrong code against a sign-in, and ends it when it
// was one too many.
func countSignInFailure(ctx context.Context, tx *sqldb.Tx, in signIn) error {
	if in.failures+1 >= maxSignInFailures {
		return deleteSignIn(ctx, tx, in.id)
	}
	_, err := tx.Exec(ctx, `UPDATE sign_ins SET failures = failures + 1 WHERE id = ?`, in.id)
	return storeError("count a failure of a sign-in", err)
}

// unavailableUnless is err if it is a refusal or the caller's own deadline, and
// UNAVAILABLE otherwise: a sign-in that could not be decided is never a yes, and
// never a no that somebody would count.
func unavailableUnless(ctx context.Context, err error) error {
	var refusal *errs.Error
	if err == nil || errors.As(err, &refusal) || ctx.Err() != nil {
		return err
	}
	return errs.Unavailable(fmt.Errorf("auth: undecided: %w", err))
}
