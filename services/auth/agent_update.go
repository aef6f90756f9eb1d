package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var (
	errChangeSelf = errs.New(codes.FailedPrecondition, errs.ReasonCannotChangeSelf,
		"Nobody changes their own role or deactivates themselves. Ask another admin.")
	errLastOwner = errs.New(codes.FailedPrecondition, errs.ReasonLastOwner,
		"This is the account's last active owner. Name another one first.")
	errEtagMismatch = errs.New(codes.Aborted, errs.ReasonEtagMismatch,
		"The agent has changed since it was read. Read it again and repeat the change.")
	// errSessionsLeftAfterChange answers UNAVAILABLE though the change is stored: an
	// OK would promise that no session is left. The event will end them.
	errSessionsLeftAfterChange = errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable,
		"The agent was changed, but the agent's sessions could not be ended yet. "+
			"They will be as soon as possible; repeating the change does no harm.")
)

// The fields of an agent that can be changed, as field masks name them.
const (
	fieldRole        = "role"
	fieldDisplayName = "display_name"
	fieldEmail       = "email"
)

// agentChange is what a request wants to change of an agent. Empty is unchanged.
type agentChange struct {
	role        enforcement.Role
	displayName string
	email       address.Address
	etag        string
}

// newAgentChange reads an agent and a mask as UpdateAgent takes them.
func newAgentChange(wanted *authv1.Agent, mask *fieldmaskpb.FieldMask) (agentChange, error) {
	fields, err := maskedFields(wanted, mask)
	if err != nil {
		return agentChange{}, err
	}
	c := agentChange{etag: wanted.GetEtag()}
	for _, field := range fields {
		switch field {
		case fieldRole:
			if _, known := authv1.Agent_Role_name[int32(wanted.GetRole())]; !known || wanted.GetRole() == authv1.Agent_ROLE_UNSPECIFIED {
				return agentChange{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.").
					WithViolation("agent.role", "It must be AGENT, ADMIN or OWNER.")
			}
			c.role = enforcement.Role(wanted.GetRole().String())
		case fieldDisplayName:
			if c.displayName, err = address.DisplayName(wanted.GetDisplayName()); err != nil {
				return agentChange{}, atField("agent.display_name", err)
			}
		case fieldEmail:
			if c.email, err = address.Parse(wanted.GetEmail()); err != nil {
				return agentChange{}, atField("agent.email", err)
			}
		}
	}
	return c, nil
}

// maskedFields returns the fields a mask selects that can be changed. Without a
// mask those are the ones that are set (AIP-134). Fields that the suite sets are
// passed over (AIP-203), so that what was read can be sent back.
func maskedFields(wanted *authv1.Agent, mask *fieldmaskpb.FieldMask) (fields []string, err error) {
	if mask == nil {
		for field, set := range map[string]bool{
			fieldRole:        wanted.GetRole() != authv1.Agent_ROLE_UNSPECIFIED,
			fieldDisplayName: wanted.GetDisplayName() != "",
			fieldEmail:       wanted.GetEmail() != "",
		} {
			if set {
				fields = append(fields, field)
			}
		}
		return fields, nil
	}
	for _, path := range mask.GetPaths() {
		first, _, nested := strings.Cut(path, ".")
		switch {
		case path == "*":
			fields = append(fields, fieldRole, fieldDisplayName, fieldEmail)
		case first == fieldRole || first == fieldDisplayName || first == fieldEmail:
			if nested {
				return nil, errAgentMask
			}
			fields = append(fields, first)
		case (&authv1.Agent{}).ProtoReflect().Descriptor().Fields().ByTextName(first) == nil:
			return nil, errAgentMask
		}
	}
	return fields, nil
}

var errAgentMask = errs.New(codes.InvalidArgument, errs.ReasonFieldMaskInvalid,
	"The field mask may name role, display_name and email.").WithField("update_mask")

// UpdateAgent changes an agent's role, name or address. Sessions that began in
// another role end before it answers.
func (s *agentServer) UpdateAgent(
	ctx context.Context, req *authv1.UpdateAgentRequest,
) (*authv1.UpdateAgentResponse, error) {
	name, err := agentOfCaller(ctx, "agent.name", req.GetAgent().GetName())
	if err != nil {
		return nil, err
	}
	wanted, err := newAgentChange(req.GetAgent(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	p, err := s.policyOfAgent(ctx, name)
	if err != nil {
		return nil, err
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err = s.updateAgent(ctx, tx, authz.FromContext(ctx), name, wanted)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.relay.Wake()
	// Also when nothing changed: the caller may be asking again because the first
	// call was cut off between commit and here.
	if wanted.role != "" {
		if err := s.endSessionsAfterChange(ctx, a); err != nil {
			return nil, err
		}
	}
	return &authv1.UpdateAgentResponse{Agent: a.toProto(p)}, nil
}

func (s *Service) endSessionsAfterChange(ctx context.Context, a agent) error {
	if err := s.endSessions(ctx, a.name(), a.version, ""); err != nil {
		s.log.WarnContext(ctx, "Sessions not ended at once after a change; the event will",
			slog.String("agent", a.name().String()), slog.Any("error", err))
		return errSessionsLeftAfterChange.WithCause(err)
	}
	return nil
}

// policyOfAgent returns a policy under which the agent can be shown. It asks for the
// account's only when that makes a difference.
func (s *Service) policyOfAgent(ctx context.Context, name resource.AgentName) (enforcement.Policy, error) {
	a, err := selectAgent(ctx, s.store.db, name, "")
	if err != nil || !dependsOnPolicy(a) {
		return enforcement.Policy{}, err
	}
	return s.policyOf(ctx, name.Account)
}

// updateAgent locks the agent, and for a change of role the account, decides, and
// writes what changes.
func (s *Service) updateAgent(
	ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, name resource.AgentName, wanted agentChange,
) (agent, error) {
	if wanted.role != "" {
		if err := lockRoles(ctx, tx, name.Account); err != nil {
			return agent{}, err
		}
	}
	before, err := selectAgent(ctx, tx, name, tx.ForUpdate())
	if err != nil {
		return agent{}, err
	}
	if wanted.etag != "" && wanted.etag != before.etag() {
		return agent{}, errEtagMismatch
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return agent{}, err
	}
	a := wanted.applyTo(before, now)
	if a == before {
		return a, nil
	}
	if err := s.mayUpdate(ctx, tx, caller, before, a); err != nil {
		return agent{}, err
	}
	if err := writeChange(ctx, tx, caller, before, a, now); err != nil {
		return agent{}, err
	}
	return a, recordUpdate(ctx, tx, caller, before, a)
}

// applyTo returns the agent as it is to be; the very same if nothing changes.
func (c agentChange) applyTo(a agent, now time.Time) agent {
	before := a
	if c.displayName != "" {
		a.displayName, a.nameKey = c.displayName, fold(c.displayName)
	}
	if c.email != (address.Address{}) {
		a.email, a.emailKey = c.email.String(), c.email.Key()
	}
	if c.role != "" && c.role != a.role {
		a.role = c.role
		a.version++
	}
	if a != before {
		a.updateTime = now
	}
	return a
}

// mayUpdate says whether the caller may make before into after.
func (s *Service) mayUpdate(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, before, after agent) error {
	self := isSelf(caller, before.name())
	if self && after.role != before.role {
		return errChangeSelf
	}
	if before.role == enforcement.RoleOwner || after.role == enforcement.RoleOwner {
		if err := checkOwner(ctx, tx, caller); err != nil {
			return err
		}
	}
	if before.role == enforcement.RoleOwner && after.role != enforcement.RoleOwner {
		if err := checkLastOwner(ctx, tx, before); err != nil {
			return err
		}
	}
	if after.email == before.email {
		return nil
	}
	// Whoever holds a stolen session must not have the next link for a new password
	// sent to themselves (ASVS 7.5.1).
	if self && before.hasFactor && !s.isFresh(caller.Person) {
		return errStepUpRequired
	}
	return checkAddressFree(ctx, tx, before, after)
}

func checkAddressFree(ctx context.Context, tx *sqldb.Tx, before, after agent) error {
	if after.emailKey == before.emailKey {
		return nil
	}
	var taken int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM agents WHERE account = ? AND email_key = ?`, after.account, after.emailKey).
		Scan(&taken)
	if err == nil && taken > 0 {
		return errEmailTaken.WithField("agent.email")
	}
	return storeError("look for an address", err)
}

// writeChange writes a changed agent and what it means to others.
func writeChange(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, before, a agent, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE agents SET email = ?, email_key = ?, display_name = ?, name_key = ? WHERE id = ?`,
		a.email, a.emailKey, a.displayName, a.nameKey, a.id)
	if sqldb.IsUniqueViolation(err) {
		return errEmailTaken.WithField("agent.email") // by somebody who was faster
	}
	if err != nil {
		return storeError("update an agent", err)
	}
	if err := updateAgent(ctx, tx, a); err != nil {
		return err
	}
	actor, err := actorOf(ctx, tx, caller)
	if err != nil {
		return err
	}
	if a.role != before.role {
		event, err := agentEvent(a, now, &authv1.RoleChanged{
			Agent: a.name().String(), AgentVersion: a.version, PreviousRole: roleToProto(before.role), Role: roleToProto(a.role),
			ChangeTime: timestamp(now), Actor: actor,
		})
		if err != nil {
			return err
		}
		if err := outbox.Append(ctx, tx, event); err != nil {
			return err
		}
	}
	if a.email == before.email {
		return nil
	}
	event, err := agentEvent(a, now, &authv1.EmailChanged{
		Agent: a.name().String(), AgentVersion: a.version, PreviousEmail: before.email, MaskedEmail: maskAddress(a.email),
		ChangeTime: timestamp(now), Actor: actor,
	})
	if err != nil {
		return err
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return err
	}
	// Whoever reads the old mailbox must not get in by a link that lies there.
	if err := voidLinks(ctx, tx, a.id); err != nil {
		return err
	}
	if a.state != stateInvited {
		return nil
	}
	return invite(ctx, tx, caller, a, now)
}

func isSelf(caller *authz.Caller, name resource.AgentName) bool {
	return caller.Kind == authz.KindPerson && nameOf(caller.Person) == name
}

// lockRoles lets one transaction at a time change who may do what in an account, so
// that of two owners who go at the same moment one is found to be the last.
func lockRoles(ctx context.Context, tx *sqldb.Tx, account string) error {
	var id string
	err := tx.QueryRow(ctx, `SELECT id FROM accounts WHERE id = ?`+tx.ForUpdate(), account).Scan(&id)
	if errors.Is(err, sqldb.ErrNoRows) {
		return resource.ErrNotFound
	}
	return storeError("lock an account", err)
}

// checkOwner refuses what only owners and the operator may do. A person must be an
// owner now, and not only when the session began.
func checkOwner(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller) error {
	if !isOwner(caller) {
		return errOwnerRequired
	}
	if caller.Kind != authz.KindPerson {
		return nil
	}
	a, err := selectMe(ctx, tx, caller.Person, "")
	if err == nil && a.role != enforcement.RoleOwner {
		return errOwnerRequired
	}
	return err
}

// checkLastOwner refuses to take an owner away when no other active one is left.
// The caller has locked the account's roles.
func checkLastOwner(ctx context.Context, tx *sqldb.Tx, a agent) error {
	if a.state == stateDeactivated {
		return nil // does not count already
	}
	var others int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM agents WHERE account = ? AND role = ? AND state = ? AND id <> ?`,
		a.account, string(enforcement.RoleOwner), string(stateActive), a.id).Scan(&others)
	if err == nil && others == 0 {
		return errLastOwner
	}
	return storeError("count owners", err)
}
