package notifier

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const (
	// askTimeout bounds each question to auth. It is shorter than a lease.
	askTimeout = 5 * time.Second
	// nameLifetime is how long an account's name is remembered: it hardly ever
	// changes, and stands in every mail.
	nameLifetime = time.Minute
	maxNames     = 10_000
)

// people asks auth who the agents are.
type people struct {
	agents   authv1.AgentServiceClient
	accounts authv1.AccountServiceClient
	now      func() time.Time

	mu    sync.Mutex
	names map[string]accountName
}

type accountName struct {
	name string
	read time.Time
}

// find returns agents of an account by their bare ids. Those that do not exist are
// not in the answer.
func (p *people) find(ctx context.Context, account string, ids []string) (map[string]*authv1.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = resource.AgentName{Account: account, Agent: id}.String()
	}
	resp, err := p.agents.BatchGetAgents(ctx, &authv1.BatchGetAgentsRequest{Names: names})
	if err != nil {
		return nil, fmt.Errorf("notifier: get agents: %w", err)
	}
	found := map[string]*authv1.Agent{}
	for _, a := range resp.GetAgents() {
		if name, err := resource.ParseAgent("name", a.GetName()); err == nil && name.Account == account {
			found[name.Agent] = a
		}
	}
	return found, nil
}

// recipientOf is what matters of an agent for delivery; nil is nobody.
func recipientOf(a *authv1.Agent) recipient {
	return recipient{
		email: a.GetEmail(), displayName: a.GetDisplayName(),
		active:   a.GetState() == authv1.Agent_ACTIVE || a.GetState() == authv1.Agent_INVITED,
		notSetUp: a.GetMfaState() == authv1.Agent_NOT_SET_UP,
	}
}

// toNotify returns a page of the agents that an enforcement's mail goes to.
func (p *people) toNotify(ctx context.Context, t terms, after string, size int32) ([]*authv1.ListAgentsToNotifyResponse_Recipient, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := p.agents.ListAgentsToNotify(ctx, &authv1.ListAgentsToNotifyRequest{
		Account: t.account, EnforceTime: timestamp(t.enforceTime), ApplyToSso: t.applyToSSO, PageSize: size, AfterAgentId: after,
	})
	if err != nil {
		return nil, fmt.Errorf("notifier: list agents to notify: %w", err)
	}
	return resp.GetRecipients(), nil
}

// accountName returns how people call an account.
func (p *people) accountName(ctx context.Context, account string) (string, error) {
	if name, ok := p.remembered(account); ok {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := p.accounts.GetAccount(ctx, &authv1.GetAccountRequest{Name: resource.Account(account)})
	if status.Code(err) == codes.NotFound {
		return account, nil // the agents will not be found either
	}
	if err != nil {
		return "", fmt.Errorf("notifier: get account: %w", err)
	}
	name := resp.GetAccount().GetDisplayName()
	p.remember(account, name)
	return name, nil
}

// hasAccount says whether there is an account.
func (p *people) hasAccount(ctx context.Context, account string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := p.accounts.GetAccount(ctx, &authv1.GetAccountRequest{Name: resource.Account(account)})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("notifier: get account: %w", err)
	}
	return true, nil
}

func (p *people) remembered(account string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.names[account]
	return known.name, ok && p.now().Sub(known.read) < nameLifetime
}

func (p *people) remember(account, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.names) >= maxNames {
		clear(p.names)
	}
	p.names[account] = accountName{name: name, read: p.now()}
}
