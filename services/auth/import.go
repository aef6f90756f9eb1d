package auth

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// ImportAgents makes many agents. All that can be refused without a password
// being hashed is refused before, which makes repeating an import cheap.
func (s *agentServer) ImportAgents(
	ctx context.Context, req *authv1.ImportAgentsRequest,
) (*authv1.ImportAgentsResponse, error) {
	account, err := accountOfCaller(ctx, "parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	r, err := s.store.newRequest(account, authv1.AgentService_ImportAgents_FullMethodName, req.GetRequestId(), req)
	if err != nil {
		return nil, err
	}
	answer := &authv1.ImportAgentsResponse{}
	if found, err := s.store.answered(ctx, r, answer); err != nil || found {
		return answer, err
	}
	if _, err := selectAccount(ctx, s.store.db, account); err != nil {
		return nil, err
	}
	caller := authz.FromContext(ctx)
	plan, err := newImportPlan(caller, req.GetAgents())
	if err != nil {
		return nil, err
	}
	taken, err := s.store.taken(ctx, account, plan.emailKeys())
	if err != nil {
		return nil, err
	}
	plan.refuse(taken)
	if err := s.hashPasswords(ctx, plan); err != nil {
		return nil, err
	}
	err = s.store.once(ctx, r, answer, func(ctx context.Context, tx *sqldb.Tx) error {
		made, err := insertDrafts(ctx, tx, account, plan.drafts())
		if err != nil {
			return err
		}
		answer.Results = plan.results(made)
		if err := appendImported(ctx, tx, caller, account, plan, made, req.GetSendInvitations()); err != nil {
			return err
		}
		return recordImport(ctx, tx, caller, account, len(plan.rows), len(made), req.GetSendInvitations())
	})
	s.relay.Wake()
	return answer, err
}

// importPlan is what becomes of each row: a draft, or a refusal.
type importPlan struct {
	rows []importRow
}

type importRow struct {
	draft
	refusal *errs.Error // nil while there is none
}

// newImportPlan checks every row by itself. Of rows with the same address the
// first that could be made counts.
func newImportPlan(caller *authz.Caller, rows []*authv1.ImportAgentsRequest_Row) (*importPlan, error) {
	plan := &importPlan{rows: make([]importRow, len(rows))}
	seen := make(map[string]bool, len(rows))
	for i, row := range rows {
		d, err := newDraft(caller, typed{
			email: row.GetEmail(), displayName: row.GetDisplayName(), role: row.GetRole(),
			password: row.GetPassword(), passwordHash: row.GetPasswordHash(),
		})
		var refusal *errs.Error
		switch {
		case err == nil && seen[d.email.Key()]:
			refusal = errEmailTaken
		case err != nil && !errors.As(err, &refusal):
			return nil, err
		}
		seen[d.email.Key()] = seen[d.email.Key()] || refusal == nil
		plan.rows[i] = importRow{draft: d, refusal: refusal}
	}
	return plan, nil
}

// emailKeys returns the keys of the addresses of all rows not refused.
func (p *importPlan) emailKeys() []string {
	var keys []string
	for _, d := range p.drafts() {
		keys = append(keys, d.email.Key())
	}
	return keys
}

// refuse refuses the rows whose addresses are taken.
func (p *importPlan) refuse(taken map[string]bool) {
	for i := range p.rows {
		if row := &p.rows[i]; row.refusal == nil && taken[row.email.Key()] {
			row.refusal = errEmailTaken
		}
	}
}

// drafts returns the rows that are not refused.
func (p *importPlan) drafts() []draft {
	var drafts []draft
	for _, row := range p.rows {
		if row.refusal == nil {
			drafts = append(drafts, row.draft)
		}
	}
	return drafts
}

// results answers every row, given the agents that were made. A row that is
// neither refused nor made met an address that was taken meanwhile.
func (p *importPlan) results(made map[string]agent) []*authv1.ImportAgentsResponse_Result {
	results := make([]*authv1.ImportAgentsResponse_Result, len(p.rows))
	for i, row := range p.rows {
		if a, ok := made[row.id]; ok && row.refusal == nil {
			results[i] = &authv1.ImportAgentsResponse_Result{
				Outcome: &authv1.ImportAgentsResponse_Result_Agent{Agent: a.toProto(newcomersPolicy())},
			}
			continue
		}
		refusal := row.refusal
		if refusal == nil {
			refusal = errEmailTaken
		}
		results[i] = &authv1.ImportAgentsResponse_Result{
			Outcome: &authv1.ImportAgentsResponse_Result_Error{Error: &authv1.ImportAgentsResponse_RowError{
				Reason: refusal.Reason(), Message: refusal.Message(),
			}},
		}
	}
	return results
}

// appendImported tells of the agents made, if any, in the order of their rows.
func appendImported(
	ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, account string, plan *importPlan, made map[string]agent, invite bool,
) error {
	imported := &authv1.AgentsImported{Account: account, SendInvitations: invite}
	var at time.Time
	var invited []string
	for _, row := range plan.rows {
		if a, ok := made[row.id]; ok && row.refusal == nil {
			imported.Agents = append(imported.Agents, a.name().String())
			at = a.createTime
			if invite && a.state == stateInvited {
				invited = append(invited, a.id)
			}
		}
	}
	if len(imported.GetAgents()) == 0 {
		return nil
	}
	var err error
	if imported.Actor, err = actorOf(ctx, tx, caller); err != nil {
		return err
	}
	// Imports do not supersede each other, so there is no version to compare.
	event, err := newEvent(resource.Account(account), account, 0, at, imported)
	if err != nil {
		return err
	}
	if err := promiseLinks(ctx, tx, linkInvitation, event.ID, at, invited...); err != nil {
		return err
	}
	return outbox.Append(ctx, tx, event)
}

// hashPasswords hashes the passwords of all rows that are not refused. It leaves
// half of the processors to people who sign in meanwhile, and waits its turn
// when they need the rest.
func (s *Service) hashPasswords(ctx context.Context, plan *importPlan) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
	for i := range plan.rows {
		row := &plan.rows[i]
		if row.refusal != nil || row.password == "" {
			continue
		}
		group.Go(func() error {
			for {
				err := s.hashPassword(ctx, &row.draft)
				if !errors.Is(err, password.ErrOverloaded) {
					return err
				}
				if err := wait(ctx, overloadPause); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// overloadPause is how long an import stands back when too many people sign in.
const overloadPause = 200 * time.Millisecond

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
