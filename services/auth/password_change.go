package auth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var (
	errCurrentPassword = errInvalidCredentials.WithMessage("The current password is wrong.").WithField("current_password")
	errPasswordNotSet  = errs.New(codes.FailedPrecondition, errs.ReasonPasswordNotSet,
		"You sign in without a password of this account, so there is none to change.")
	// errSessionsLeftAfterPassword answers UNAVAILABLE though the password is stored:
	// an OK would promise that no other session is left. The event will end them.
	errSessionsLeftAfterPassword = errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable,
		"The password was changed, but other sessions could not be ended yet. They will be as soon as possible.")
)

// passwordChange is a new password, checked and hashed.
type passwordChange struct {
	hash        string
	cause       authv1.PasswordChanged_Cause
	keepSession string
}

// setPassword gives an agent, whose row the transaction has locked, a new password.
// Second factors and what was counted against guessing them stay: they are another
// matter. Whatever was begun or mailed before is over.
func setPassword(ctx context.Context, tx *sqldb.Tx, a agent, c passwordChange, now time.Time) (agent, error) {
	_, err := tx.Exec(ctx, `INSERT INTO passwords (agent_id, hash, update_time) VALUES (?, ?, ?)
		ON CONFLICT (agent_id) DO UPDATE SET hash = excluded.hash, update_time = excluded.update_time`,
		a.id, c.hash, sqldb.Micros(now))
	if err != nil {
		return agent{}, storeError("store a password", err)
	}
	if err := endWhatIsOpen(ctx, tx, a.id); err != nil {
		return agent{}, err
	}
	a.hasPassword, a.state = true, stateActive
	a.version++
	a.updateTime = now
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	event, err := agentEvent(a, now, &authv1.PasswordChanged{
		Agent: a.name().String(), AgentVersion: a.version, ChangeTime: timestamp(now),
		KeepSession: c.keepSession, Cause: c.cause,
	})
	if err != nil {
		return agent{}, err
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return agent{}, err
	}
	return a, recordOwn(ctx, tx, actionChangePassword, a, details{"cause": c.cause.String()})
}

// endWhatIsOpen ends what an agent has begun and not finished: sign-ins, set-ups,
// and links that were mailed.
func endWhatIsOpen(ctx context.Context, tx *sqldb.Tx, agentID string) error {
	for _, table := range []string{"sign_ins", "enrollments", "links"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE agent_id = ?`, agentID); err != nil {
			return storeError("delete from "+table, err)
		}
	}
	return nil
}

// ResetPassword sets a new password by a link that was mailed. Whoever can read the
// mail has shown nothing but that, so nobody is signed in and no factor is removed
// (ASVS 6.4.3).
func (s *signInServer) ResetPassword(
	ctx context.Context, req *authv1.ResetPasswordRequest,
) (*authv1.ResetPasswordResponse, error) {
	err := s.choosePassword(ctx, linkPasswordReset, req.GetToken(), req.GetPassword(), authv1.PasswordChanged_RESET)
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.ResetPasswordResponse{}, nil
}

// choosePassword uses a link up and sets the password that was typed.
func (s *Service) choosePassword(
	ctx context.Context, purpose linkPurpose, token, typed string, cause authv1.PasswordChanged_Cause,
) error {
	if err := password.Check(typed); err != nil {
		return atField("password", err)
	}
	id, err := linkHash(token)
	if err != nil {
		return err
	}
	// Hashing takes long, so nobody gets it done for a link that is over.
	if _, err := selectLink(ctx, s.store.db, id); err != nil {
		return err
	}
	hash, err := s.passwords.Hash(ctx, typed)
	if err != nil {
		return err
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		locked, now, err := lockLink(ctx, tx, id, purpose)
		if err != nil {
			return err
		}
		a, err = setPassword(ctx, tx, locked, passwordChange{hash: hash, cause: cause}, now)
		return err
	})
	if err != nil {
		return err
	}
	return s.afterNewPassword(ctx, a, "")
}

// afterNewPassword publishes, and ends the sessions from before.
func (s *Service) afterNewPassword(ctx context.Context, a agent, keep string) error {
	s.relay.Wake()
	if err := s.endSessions(ctx, a.name(), a.version, keep); err != nil {
		s.log.WarnContext(ctx, "Sessions not ended at once after a new password; the event will",
			slog.String("agent", a.name().String()), slog.Any("error", err))
		return errSessionsLeftAfterPassword.WithCause(err)
	}
	return nil
}

// ChangePassword changes the password of whoever is signed in. The session that
// asks stays; the others end (ASVS 7.4.3).
func (s *profileServer) ChangePassword(
	ctx context.Context, req *authv1.ChangePasswordRequest,
) (*authv1.ChangePasswordResponse, error) {
	if err := s.changePassword(ctx, authz.FromContext(ctx), req); err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.ChangePasswordResponse{}, nil
}

func (s *Service) changePassword(ctx context.Context, caller *authz.Caller, req *authv1.ChangePasswordRequest) error {
	if err := password.Check(req.GetNewPassword()); err != nil {
		return atField("new_password", err)
	}
	p := caller.Person
	a, err := selectMe(ctx, s.store.db, p, "")
	if err != nil {
		return err
	}
	if err := s.mayChangePassword(a, p); err != nil {
		return err
	}
	stored, err := selectHash(ctx, s.store.db, a)
	if err != nil {
		return err
	}
	// The same counters as at sign-in: a stolen session must not bring new guesses.
	guesser := s.store.newGuesser(p.Account, a.email, caller.ClientAddress)
	proven, err := s.provePassword(ctx, credentials{agent: a, hash: stored}, req.GetCurrentPassword(), guesser)
	if errors.Is(err, errInvalidCredentials) {
		return errCurrentPassword
	}
	if err != nil {
		return err
	}
	hash, err := s.passwords.Hash(ctx, req.GetNewPassword())
	if err != nil {
		return err
	}
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		locked, now, err := lockMe(ctx, tx, p)
		if err != nil {
			return err
		}
		if err := s.mayChangePassword(locked, p); err != nil {
			return err
		}
		// Somebody else may have changed it meanwhile, and then it was not proven.
		if stored, err := selectHash(ctx, tx, locked); err != nil || stored != proven {
			return errors.Join(err, errCurrentPassword)
		}
		a, err = setPassword(ctx, tx, locked, passwordChange{
			hash: hash, cause: authv1.PasswordChanged_CHANGED, keepSession: p.SessionName,
		}, now)
		return err
	})
	if err != nil {
		return err
	}
	return s.afterNewPassword(ctx, a, p.SessionName)
}

func (s *Service) mayChangePassword(a agent, p *authz.Person) error {
	switch {
	case a.hasFactor && !s.isFresh(p):
		return errStepUpRequired
	case !a.hasPassword:
		return errPasswordNotSet
	}
	return nil
}

// selectHash returns the hash of the password of an agent who has one.
func selectHash(ctx context.Context, q querier, a agent) (hash string, err error) {
	err = q.QueryRow(ctx, `SELECT hash FROM passwords WHERE agent_id = ?`, a.id).Scan(&hash)
	return hash, storeError("read a password", err)
}
