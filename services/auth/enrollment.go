package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var errEnrollmentExpired = errs.New(codes.FailedPrecondition, errs.ReasonEnrollmentExpired,
	"This set-up is over. Begin it again and scan the new code.")

// enrollment is a factor in the making.
type enrollment struct {
	id         string
	begunBy    string
	secret     totp.Secret
	failures   int
	expireTime time.Time
}

// An enrollment is finished where it was begun: in one sign-in or in one session.
func begunBySignIn(id string) string    { return "signIn:" + id }
func begunBySession(name string) string { return "session:" + name }

// newEnrollment draws a secret. It is kept, and shown, once the caller has seen to
// it that the agent may have it.
func (s *Service) newEnrollment(begunBy string) (enrollment, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return enrollment{}, fmt.Errorf("auth: enrollment id: %w", err)
	}
	secret, err := totp.NewSecret(rand.Reader)
	if err != nil {
		return enrollment{}, fmt.Errorf("auth: enroll: %w", err)
	}
	return enrollment{id: id.String(), begunBy: begunBy, secret: secret}, nil
}

// upsertEnrollment keeps an enrollment of an agent whose row the transaction has
// locked, in place of an earlier one.
func (s *store) upsertEnrollment(ctx context.Context, tx *sqldb.Tx, a agent, e enrollment, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO enrollments (agent_id, id, begun_by, secret, failures, create_time, expire_time)
		VALUES (?, ?, ?, ?, 0, ?, ?)
		ON CONFLICT (agent_id) DO UPDATE SET id = excluded.id, begun_by = excluded.begun_by, secret = excluded.secret,
			failures = 0, create_time = excluded.create_time, expire_time = excluded.expire_time`,
		a.id, e.id, e.begunBy, s.seal(purposeEnrollment, a, e.id, e.secret), sqldb.Micros(now), sqldb.Micros(e.expireTime))
	return storeError("keep an enrollment", err)
}

// showEnrollment is the only place where a secret leaves the service.
func (s *Service) showEnrollment(a agent, e enrollment) (*authv1.Enrollment, error) {
	uri := totp.URI(s.cfg.Issuer, a.email, e.secret)
	picture, err := totp.QR(uri)
	if err != nil {
		return nil, err
	}
	return &authv1.Enrollment{
		EnrollmentId: e.id, Secret: e.secret.Base32(), OtpauthUri: uri, QrPng: picture,
		ExpireTime: timestamppb.New(e.expireTime),
	}, nil
}

// confirmation is what somebody sends to finish a set-up.
type confirmation struct {
	enrollmentID string
	begunBy      string
	code         totp.Code
	keepSession  string // stays when the agent's other sessions end; empty for none
}

// enrolled is the outcome of a finished set-up.
type enrolled struct {
	agent agent // as it is now
	codes []string
}

// maxEnrollmentFailures is how many wrong codes void a set-up.
const maxEnrollmentFailures = 5

// confirm finishes a set-up of an agent whose row the transaction has locked. For
// a wrong code it returns nil without an error, having counted it: the
// transaction has to commit all the same.
func (s *Service) confirm(
	ctx context.Context, tx *sqldb.Tx, a agent, c confirmation, now time.Time,
) (*enrolled, error) {
	e, err := s.store.selectEnrollment(ctx, tx, a, c, now)
	if err != nil {
		return nil, err
	}
	if err := checkGuesses(ctx, tx, a.id, now, failedEnrollment); err != nil {
		return nil, err
	}
	step, wrong, err := matchTOTP(e.secret, c.code, s.now(), totp.NoStep)
	if err != nil {
		return nil, err
	}
	if wrong != nil {
		return nil, countEnrollmentFailure(ctx, tx, a, e, now)
	}
	return s.install(ctx, tx, a, e, step, c.keepSession, now)
}

// selectEnrollment returns the enrollment that c names, or errEnrollmentExpired.
func (s *store) selectEnrollment(
	ctx context.Context, tx *sqldb.Tx, a agent, c confirmation, now time.Time,
) (enrollment, error) {
	var e enrollment
	var sealed []byte
	var expires int64
	err := tx.QueryRow(ctx, `SELECT id, begun_by, secret, failures, expire_time FROM enrollments WHERE agent_id = ?`, a.id).
		Scan(&e.id, &e.begunBy, &sealed, &e.failures, &expires)
	if errors.Is(err, sqldb.ErrNoRows) {
		return enrollment{}, errEnrollmentExpired
	}
	if err != nil {
		return enrollment{}, storeError("read an enrollment", err)
	}
	e.expireTime = sqldb.FromMicros(expires)
	if e.id != c.enrollmentID || e.begunBy != c.begunBy || !now.Before(e.expireTime) {
		return enrollment{}, errEnrollmentExpired
	}
	e.secret, err = s.open(purposeEnrollment, a, e.id, sealed)
	return e, err
}

func countEnrollmentFailure(ctx context.Context, tx *sqldb.Tx, a agent, e enrollment, now time.Time) error {
	if err := countGuesses(ctx, tx, a, now, failedEnrollment); err != nil {
		return err
	}
	if e.failures+1 >= maxEnrollmentFailures {
		return deleteEnrollment(ctx, tx, a)
	}
	_, err := tx.Exec(ctx, `UPDATE enrollments SET failures = failures + 1 WHERE agent_id = ?`, a.id)
	return storeError("count a failure of an enrollment", err)
}

func deleteEnrollment(ctx context.Context, tx *sqldb.Tx, a agent) error {
	_, err := tx.Exec(ctx, `DELETE FROM enrollments WHERE agent_id = ?`, a.id)
	return storeError("delete an enrollment", err)
}

// install makes the confirmed secret the agent's factor, in place of whatever
// there was. The step of the code is used up with it, so the same code does not
// also open the next sign-in.
func (s *Service) install(
	ctx context.Context, tx *sqldb.Tx, a agent, e enrollment, step int64, keepSession string, now time.Time,
) (*enrolled, error) {
	replaced := a.hasFactor
	if err := checkFactors(ctx, tx, a); err != nil {
		return nil, err
	}
	// The earlier codes stay readable until replaceCodes has numbered the new ones.
	for _, table := range []string{"sign_ins", "enrollments", "factors", "factor_failures"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE agent_id = ?`, a.id); err != nil {
			return nil, storeError("delete from "+table, err)
		}
	}
	factorID, err := s.store.insertFactor(ctx, tx, a, e.secret, step, now)
	if err != nil {
		return nil, err
	}
	codes, err := s.store.replaceCodes(ctx, tx, a, now)
	if err != nil {
		return nil, err
	}
	if !a.hasFactor {
		a.hasFactor, a.mfaStateTime = true, now
	}
	a.version++
	a.updateTime = now
	if err := updateAgent(ctx, tx, a); err != nil {
		return nil, err
	}
	event, err := agentEvent(a, now, &authv1.MFAEnrolled{
		Agent: a.name().String(), AgentVersion: a.version, Factor: factorName(a, factorID),
		EnrollTime: timestamp(now), KeepSession: keepSession, Replaced: replaced,
	})
	if err != nil {
		return nil, err
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return nil, err
	}
	err = recordOwn(ctx, tx, actionEnroll, a, details{
		"factor": factorID, "type": factorTOTP, "replaced": strconv.FormatBool(replaced),
	})
	return &enrolled{agent: a, codes: codes}, err
}

// endSessionsOrLeaveItToTheEvent ends the sessions below an agent's version after
// a set-up. The set-up is done either way and its recovery codes are shown but
// once, so a session service that does not answer is no reason to withhold them.
func (s *Service) endSessionsOrLeaveItToTheEvent(ctx context.Context, a agent, keep string) {
	if err := s.endSessions(ctx, a.name(), a.version, keep); err != nil {
		s.log.WarnContext(ctx, "Sessions not ended at once after a set-up; the event will",
			slog.String("agent", a.name().String()), slog.Any("error", err))
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
