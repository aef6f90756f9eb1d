package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// agentState is whether an agent can sign in, as it is stored.
type agentState string

const (
	stateInvited     agentState = "INVITED"
	stateActive      agentState = "ACTIVE"
	stateDeactivated agentState = "DEACTIVATED"
)

// agent is an agent as it is stored.
type agent struct {
	id, account            string
	email, emailKey        string
	displayName            string
	nameKey                string
	role                   enforcement.Role
	state                  agentState
	hasPassword            bool
	hasSSO                 bool
	hasFactor              bool
	mfaStateTime           time.Time
	version                int64
	lastSignInTime         time.Time
	createTime, updateTime time.Time
	ssoTime                time.Time // of the last sign-in by SSO
	ssoAMR                 string    // words joined by spaces
}

// facts is what the rule needs to know of the agent.
func (a agent) facts() enforcement.Agent {
	return enforcement.Agent{
		Role:        a.role,
		Active:      a.state != stateDeactivated,
		HasPassword: a.hasPassword,
		HasSSO:      a.hasSSO,
		HasFactor:   a.hasFactor,
		CreateTime:  a.createTime,
	}
}

func (a agent) name() resource.AgentName {
	return resource.AgentName{Account: a.account, Agent: a.id}
}

// etag changes with every change. The time is in it because a database that was
// restored from a backup counts the same versions again.
func (a agent) etag() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", a.id, a.version, a.updateTime.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// What an admin reads beside an agent for whom there is something to know.
const (
	statusNotSetUp     = "Two-Factor Authentication not setup"
	statusManagedBySSO = "Managed by SSO"
)

// toProto shows an agent under the policy of its account.
func (a agent) toProto(p enforcement.Policy) *authv1.Agent {
	shown := &authv1.Agent{
		Name:           a.name().String(),
		Email:          a.email,
		DisplayName:    a.displayName,
		Role:           roleToProto(a.role),
		State:          authv1.Agent_State(authv1.Agent_State_value[string(a.state)]),
		MfaStateTime:   timestamp(a.mfaStateTime),
		LastSignInTime: timestamp(a.lastSignInTime),
		CreateTime:     timestamp(a.createTime),
		Version:        a.version,
		Etag:           a.etag(),
	}
	if !a.ssoTime.IsZero() {
		shown.LastSsoSignIn = &authv1.Agent_SsoSignIn{Time: timestamp(a.ssoTime), Amr: strings.Fields(a.ssoAMR)}
	}
	switch p.MFAState(a.facts()) {
	case enforcement.SetUp:
		shown.MfaState = authv1.Agent_SET_UP
	case enforcement.ManagedBySSO:
		shown.MfaState, shown.MfaStatusMessage = authv1.Agent_MANAGED_BY_SSO, statusManagedBySSO
	case enforcement.NotSetUp:
		shown.MfaState, shown.MfaStatusMessage = authv1.Agent_NOT_SET_UP, statusNotSetUp
	}
	return shown
}

func roleToProto(r enforcement.Role) authv1.Agent_Role {
	return authv1.Agent_Role(authv1.Agent_Role_value[string(r)])
}

// timestamp is absent for a time that is not set.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

const agentColumns = `id, account, email, email_key, display_name, name_key, role, state,
	has_password, has_sso, has_factor, mfa_state_time, version, last_sign_in_time, create_time, update_time,
	sso_time, sso_amr`

// scanAgent reads agentColumns.
func scanAgent(scan func(...any) error) (agent, error) {
	var a agent
	var mfaState, lastSignIn, created, updated, sso int64
	err := scan(&a.id, &a.account, &a.email, &a.emailKey, &a.displayName, &a.nameKey, &a.role, &a.state,
		&a.hasPassword, &a.hasSSO, &a.hasFactor, &mfaState, &a.version, &lastSignIn, &created, &updated,
		&sso, &a.ssoAMR)
	if err != nil {
		return agent{}, err
	}
	a.mfaStateTime, a.lastSignInTime = sqldb.FromMicros(mfaState), sqldb.FromMicros(lastSignIn)
	a.createTime, a.updateTime = sqldb.FromMicros(created), sqldb.FromMicros(updated)
	a.ssoTime = sqldb.FromMicros(sso)
	return a, nil
}

// columns are the values of agentColumns.
func (a agent) columns() []any {
	return []any{
		a.id, a.account, a.email, a.emailKey, a.displayName, a.nameKey, string(a.role), string(a.state),
		a.hasPassword, a.hasSSO, a.hasFactor, sqldb.Micros(a.mfaStateTime), a.version,
		sqldb.Micros(a.lastSignInTime), sqldb.Micros(a.createTime), sqldb.Micros(a.updateTime),
		sqldb.Micros(a.ssoTime), a.ssoAMR,
	}
}

// selectAgent returns an agent of an account, or resource.ErrNotFound. lock is
// empty or the Tx's ForUpdate.
func selectAgent(ctx context.Context, q querier, name resource.AgentName, lock string) (agent, error) {
	return selectOneAgent(ctx, q, `account = ? AND id = ?`+lock, name.Account, name.Agent)
}

// selectAgentByID returns an agent by its bare id, or resource.ErrNotFound.
func selectAgentByID(ctx context.Context, q querier, id, lock string) (agent, error) {
	return selectOneAgent(ctx, q, `id = ?`+lock, id)
}

// selectAgentByEmail returns the agent of an account with the key of an address,
// or resource.ErrNotFound.
func selectAgentByEmail(ctx context.Context, q querier, account, emailKey, lock string) (agent, error) {
	return selectOneAgent(ctx, q, `account = ? AND email_key = ?`+lock, account, emailKey)
}

func selectOneAgent(ctx context.Context, q querier, where string, args ...any) (agent, error) {
	a, err := scanAgent(q.QueryRow(ctx, `SELECT `+agentColumns+` FROM agents WHERE `+where, args...).Scan)
	if errors.Is(err, sqldb.ErrNoRows) {
		return agent{}, resource.ErrNotFound
	}
	return a, storeError("read an agent", err)
}

// updateAgent writes what can change of an agent whose row the transaction has
// locked, except for name and address.
func updateAgent(ctx context.Context, tx *sqldb.Tx, a agent) error {
	res, err := tx.Exec(ctx, `UPDATE agents SET role = ?, state = ?, has_password = ?, has_sso = ?, has_factor = ?,
		mfa_state_time = ?, version = ?, last_sign_in_time = ?, update_time = ? WHERE id = ?`,
		string(a.role), string(a.state), a.hasPassword, a.hasSSO, a.hasFactor,
		sqldb.Micros(a.mfaStateTime), a.version, sqldb.Micros(a.lastSignInTime), sqldb.Micros(a.updateTime), a.id)
	if err != nil {
		return storeError("update an agent", err)
	}
	if changed, err := res.RowsAffected(); err != nil || changed != 1 {
		return errors.Join(fmt.Errorf("auth: update an agent: %d rows changed, want 1", changed), err)
	}
	return nil
}
