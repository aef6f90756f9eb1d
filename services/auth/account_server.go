package auth

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// noAccount is the scope of request ids that belong to no account yet. No
// account has this id.
const noAccount = "_"

var errAccountExists = errs.New(codes.AlreadyExists, errs.ReasonAccountExists,
	"There is an account with this id. Choose another.").WithField("account_id")

var _ authv1.AccountServiceServer = (*accountServer)(nil)

// accountServer is the AccountService.
type accountServer struct {
	authv1.UnsafeAccountServiceServer
	*Service
}

// CreateAccount makes an account, its policy and its first owner. The policy
// comes first, and making it again changes nothing: so whoever finds an account
// finds its policy, whatever was cut off between the two services.
func (s *accountServer) CreateAccount(
	ctx context.Context, req *authv1.CreateAccountRequest,
) (*authv1.CreateAccountResponse, error) {
	displayName, err := address.DisplayName(req.GetDisplayName())
	if err != nil {
		return nil, atField("display_name", err)
	}
	owner, err := newDraft(authz.FromContext(ctx), typed{
		email: req.GetOwner().GetEmail(), displayName: req.GetOwner().GetDisplayName(),
		role: authv1.Agent_OWNER, password: req.GetOwner().GetPassword(), path: "owner.",
	})
	if err != nil {
		return nil, err
	}
	r, err := s.store.newRequest(noAccount, authv1.AccountService_CreateAccount_FullMethodName, req.GetRequestId(), req)
	if err != nil {
		return nil, err
	}
	answer := &authv1.CreateAccountResponse{}
	if found, err := s.store.answered(ctx, r, answer); err != nil || found {
		return answer, err
	}
	if err := checkAccountFree(ctx, s.store.db, req.GetAccountId()); err != nil {
		return answer, s.store.unlessAnswered(ctx, r, answer, err)
	}
	if err := s.hashPassword(ctx, &owner); err != nil {
		return nil, err
	}
	_, err = s.policies.CreateMfaPolicy(ctx, &policyv1.CreateMfaPolicyRequest{Account: req.GetAccountId()})
	if err != nil {
		return nil, fmt.Errorf("auth: make the policy of %s: %w", req.GetAccountId(), err)
	}
	err = s.store.once(ctx, r, answer, func(ctx context.Context, tx *sqldb.Tx) error {
		a, first, err := insertAccount(ctx, tx, account{id: req.GetAccountId(), displayName: displayName}, owner)
		if err != nil {
			return err
		}
		answer.Account = a.toProto()
		if err := inviteNewcomer(ctx, tx, authz.FromContext(ctx), first); err != nil {
			return err
		}
		return recordAccount(ctx, tx, authz.FromContext(ctx), a)
	})
	s.relay.Wake()
	return answer, err
}

// GetAccount returns an account.
func (s *accountServer) GetAccount(
	ctx context.Context, req *authv1.GetAccountRequest,
) (*authv1.GetAccountResponse, error) {
	id, err := accountOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	a, err := selectAccount(ctx, s.store.db, id)
	if err != nil {
		return nil, err
	}
	return &authv1.GetAccountResponse{Account: a.toProto()}, nil
}

// checkAccountFree spares the work before the transaction where the answer is
// already known.
func checkAccountFree(ctx context.Context, q querier, id string) error {
	_, err := selectAccount(ctx, q, id)
	switch {
	case err == nil:
		return errAccountExists
	case errors.Is(err, resource.ErrNotFound):
		return nil
	default:
		return err
	}
}

// insertAccount makes an account with its owner.
func insertAccount(ctx context.Context, tx *sqldb.Tx, a account, owner draft) (account, agent, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return account{}, agent{}, err
	}
	a.ownerID, a.createTime = owner.id, now
	res, err := tx.Exec(ctx, `INSERT INTO accounts (id, display_name, owner_id, create_time)
		VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`, a.id, a.displayName, a.ownerID, sqldb.Micros(a.createTime))
	if err != nil {
		return account{}, agent{}, storeError("insert an account", err)
	}
	inserted, err := res.RowsAffected()
	if err != nil {
		return account{}, agent{}, storeError("insert an account", err)
	}
	if inserted == 0 {
		return account{}, agent{}, errAccountExists
	}
	made, err := insertDrafts(ctx, tx, a.id, []draft{owner})
	return a, made[owner.id], err
}

func (a account) toProto() *authv1.Account {
	return &authv1.Account{
		Name:        resource.Account(a.id),
		DisplayName: a.displayName,
		CreateTime:  timestamp(a.createTime),
		Owner:       resource.AgentName{Account: a.id, Agent: a.ownerID}.String(),
	}
}

// accountOfCaller returns the bare id in `accounts/{account}`, if the caller may
// know of the account.
func accountOfCaller(ctx context.Context, field, name string) (string, error) {
	id, err := resource.ParseAccount(field, name)
	if err != nil {
		return "", err
	}
	return id, authz.FromContext(ctx).InAccount(id)
}

// agentOfCaller returns the parts of an agent's name, if the caller may know of
// the account.
func agentOfCaller(ctx context.Context, field, name string) (resource.AgentName, error) {
	n, err := resource.ParseAgent(field, name)
	if err != nil {
		return resource.AgentName{}, err
	}
	return n, authz.FromContext(ctx).InAccount(n.Account)
}
