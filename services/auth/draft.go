package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var (
	errEmailTaken = errs.New(codes.AlreadyExists, errs.ReasonEmailTaken,
		"An agent of this account has this email address.")
	errOwnerRequired = errs.New(codes.PermissionDenied, errs.ReasonOwnerRequired,
		"Only an owner of the account, or the operator, may do this to an owner.")
	errTwoPasswords = errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
		"An agent has either a password or a password hash.").
		WithViolation("password_hash", "It must be empty when there is a password.")
)

// draft is an agent to be made: everything about it has been checked but whether
// its address is free.
type draft struct {
	id          string
	email       address.Address
	displayName string
	role        enforcement.Role
	password    string // in clear, until hashed
	hash        string // empty: the agent is invited
}

// typed is a draft as a request has it.
type typed struct {
	email, displayName     string
	role                   authv1.Agent_Role
	password, passwordHash string
	path                   string // where in the request, such as `owner.`
}

func newDraft(caller *authz.Caller, t typed) (draft, error) {
	email, err := address.Parse(t.email)
	if err != nil {
		return draft{}, atField(t.path+"email", err)
	}
	d := draft{email: email, role: enforcement.RoleAgent}
	if d.displayName, err = address.DisplayName(t.displayName); err != nil {
		return draft{}, atField(t.path+"display_name", err)
	}
	if t.role != authv1.Agent_ROLE_UNSPECIFIED {
		d.role = enforcement.Role(t.role.String())
	}
	if d.role == enforcement.RoleOwner && !isOwner(caller) {
		return draft{}, errOwnerRequired.WithMessage("Only an owner of the account, or the operator, makes an owner.")
	}
	switch {
	case t.password != "" && t.passwordHash != "":
		return draft{}, errTwoPasswords
	case t.password != "":
		if err := password.Check(t.password); err != nil {
			return draft{}, atField(t.path+"password", err)
		}
		d.password = t.password
	case t.passwordHash != "":
		if d.hash, err = password.ParseHash(t.passwordHash); err != nil {
			return draft{}, atField(t.path+"password_hash", err)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return draft{}, fmt.Errorf("auth: agent id: %w", err)
	}
	d.id = id.String()
	return d, nil
}

// isOwner reports whether the caller may do to owners what admins may not. A
// change of role ends sessions, so the session's role is the agent's.
func isOwner(caller *authz.Caller) bool {
	return caller.Kind == authz.KindOperator ||
		caller.Kind == authz.KindPerson && caller.Person.Role == sessionv1.Session_OWNER
}

// atField says which field a refusal is about.
func atField(field string, err error) error {
	var refusal *errs.Error
	if errors.As(err, &refusal) {
		return refusal.WithField(field)
	}
	return err
}

// hashPassword replaces the password by its hash. It takes long and much memory,
// so it is done outside of transactions.
func (s *Service) hashPassword(ctx context.Context, d *draft) (err error) {
	if d.password == "" {
		return nil
	}
	if d.hash, err = s.passwords.Hash(ctx, d.password); err != nil {
		return err
	}
	d.password = ""
	return nil
}

// checkFree spares a password's hash where the answer is already known.
func (s *store) checkFree(ctx context.Context, account string, d draft) error {
	if _, err := selectAccount(ctx, s.db, account); err != nil {
		return err
	}
	taken, err := s.taken(ctx, account, []string{d.email.Key()})
	if err == nil && len(taken) > 0 {
		return errEmailTaken.WithField("email")
	}
	return err
}

// agent is the row the draft becomes.
func (d draft) agent(account string, now time.Time) agent {
	a := agent{
		id: d.id, account: account,
		email: d.email.String(), emailKey: d.email.Key(),
		displayName: d.displayName, nameKey: fold(d.displayName),
		role: d.role, state: stateInvited, hasPassword: d.hash != "",
		mfaStateTime: now, version: 1, createTime: now, updateTime: now,
	}
	if a.hasPassword {
		a.state = stateActive
	}
	return a
}

// insertChunk is how many rows one INSERT has at most. Both databases take far
// more parameters than that.
const insertChunk = 100

// insertDrafts makes the agents whose addresses are free and returns them by id.
func insertDrafts(ctx context.Context, tx *sqldb.Tx, account string, drafts []draft) (map[string]agent, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	// In one order everywhere: two imports of the same people wait for each other
	// instead of both waiting for the other.
	drafts = slices.Clone(drafts)
	slices.SortFunc(drafts, func(a, b draft) int { return strings.Compare(a.email.Key(), b.email.Key()) })
	made := make(map[string]agent, len(drafts))
	for chunk := range slices.Chunk(drafts, insertChunk) {
		var args []any
		for _, d := range chunk {
			if d.password != "" {
				return nil, errors.New("auth: a password that was not hashed")
			}
			args = append(args, d.agent(account, now).columns()...)
		}
		rows, err := tx.Query(ctx, `INSERT INTO agents (`+agentColumns+`) VALUES `+
			tuples(len(chunk), len(args)/len(chunk))+` ON CONFLICT (account, email_key) DO NOTHING RETURNING `+agentColumns, args...)
		if err != nil {
			return nil, storeError("insert agents", err)
		}
		inserted, err := scanAgents(rows)
		if err != nil {
			return nil, storeError("insert agents", err)
		}
		for _, a := range inserted {
			made[a.id] = a
		}
		if err := insertHashes(ctx, tx, chunk, made, now); err != nil {
			return nil, storeError("insert passwords", err)
		}
	}
	return made, nil
}

func insertHashes(ctx context.Context, tx *sqldb.Tx, drafts []draft, made map[string]agent, now time.Time) error {
	var args []any
	for _, d := range drafts {
		if _, ok := made[d.id]; ok && d.hash != "" {
			args = append(args, d.id, d.hash, sqldb.Micros(now))
		}
	}
	if len(args) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO passwords (agent_id, hash, update_time) VALUES `+tuples(len(args)/3, 3), args...)
	return err
}

// tuples is the placeholders of n rows.
func tuples(n, columns int) string {
	return strings.TrimSuffix(strings.Repeat(`(`+sqldb.Placeholders(columns)+`), `, n), `, `)
}
