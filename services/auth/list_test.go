package auth_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// row is an agent put into the table as it is.
type row struct {
	id, email, name string
	role            enforcement.Role
	state           string
	facts           enforcement.Agent // but for role and activity
	lastSignIn      time.Time
}

var seedTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// seed puts agents into acme; what they leave out is made up.
func (s *suite) seed(rows ...row) []row {
	s.t.Helper()
	require.NoError(s.t, s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range rows {
			r := &rows[i]
			r.id = cmp.Or(r.id, uuid.Must(uuid.NewV7()).String())
			r.email = cmp.Or(r.email, fmt.Sprintf("seed%d@example.com", i))
			r.name = cmp.Or(r.name, fmt.Sprintf("Seed %d", i))
			r.role, r.state = cmp.Or(r.role, enforcement.RoleAgent), cmp.Or(r.state, "ACTIVE")
			if r.facts.CreateTime.IsZero() {
				r.facts.CreateTime = seedTime
			}
			r.facts.Role, r.facts.Active = r.role, r.state != "DEACTIVATED"
			_, err := tx.Exec(ctx, `INSERT INTO agents (id, account, email, email_key, display_name, name_key, role, state,
				has_password, has_sso, has_factor, mfa_state_time, version, last_sign_in_time, create_time, update_time)
				VALUES (?, 'acme', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)`,
				r.id, r.email, strings.ToLower(r.email), r.name, strings.ToLower(r.name), string(r.role), r.state,
				r.facts.HasPassword, r.facts.HasSSO, r.facts.HasFactor, sqldb.Micros(seedTime),
				sqldb.Micros(r.lastSignIn), sqldb.Micros(r.facts.CreateTime), sqldb.Micros(seedTime))
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return rows
}

// list returns all pages of a list as the operator sees it, and requires that
// every page tells the same size.
func (p *process) list(req *authv1.ListAgentsRequest) []*authv1.Agent {
	p.s.t.Helper()
	req.Parent = "accounts/acme"
	client, ctx := p.agents(), asOperator(p.s.t.Context())
	var all []*authv1.Agent
	var total int32
	for pages := 0; ; pages++ {
		require.Less(p.s.t, len(all), 10_000, "a list that does not end")
		resp, err := client.ListAgents(ctx, req)
		require.NoError(p.s.t, err)
		if req.GetPageSize() > 0 {
			require.LessOrEqual(p.s.t, len(resp.GetAgents()), int(req.GetPageSize()))
		}
		if pages > 0 {
			require.Equal(p.s.t, total, resp.GetTotalSize())
			require.NotEmpty(p.s.t, resp.GetAgents(), "no empty page at the end")
		}
		total = resp.GetTotalSize()
		all = append(all, resp.GetAgents()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	require.Len(p.s.t, all, int(total))
	return all
}

func emails(agents []*authv1.Agent) []string {
	var out []string
	for _, a := range agents {
		out = append(out, a.GetEmail())
	}
	return out
}

// allFacts is one agent for every combination of what the rule looks at.
func allFacts(enforceTime time.Time) []row {
	var rows []row
	for _, role := range []enforcement.Role{enforcement.RoleAgent, enforcement.RoleAdmin, enforcement.RoleOwner} {
		for _, state := range []string{"INVITED", "ACTIVE", "DEACTIVATED"} {
			for bits := range 8 {
				for _, created := range []time.Duration{-time.Hour, -time.Microsecond, 0, time.Microsecond} {
					rows = append(rows, row{role: role, state: state, facts: enforcement.Agent{
						HasPassword: bits&1 > 0, HasSSO: bits&2 > 0, HasFactor: bits&4 > 0, CreateTime: enforceTime.Add(created),
					}})
				}
			}
		}
	}
	return rows
}

// The database answers as the rule does, whoever is asked about.
func TestListsAndCounts_agreeWithTheRule(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		s.exec(`DELETE FROM links`)
		s.exec(`DELETE FROM agents`)
		enforceTime := seedTime.Add(24 * time.Hour)
		rows := s.seed(allFacts(enforceTime)...)
		require.Len(t, rows, 288)
		for _, applyToSSO := range []bool{false, true} {
			for _, enforced := range []bool{false, true} {
				t.Run(fmt.Sprintf("apply to SSO %t, enforced %t", applyToSSO, enforced), func(t *testing.T) {
					policy := enforcement.Policy{
						Settings:    enforcement.Settings{Enforced: enforced, ApplyToSSO: applyToSSO, GracePeriod: time.Hour},
						EnforceTime: enforceTime,
					}
					s.policies.set(policy.Settings, enforceTime)
					requireListsAgree(t, p, policy, rows)
				})
			}
			t.Run(fmt.Sprintf("counts and mails, apply to SSO %t", applyToSSO), func(t *testing.T) {
				requireCountsAgree(t, p, applyToSSO, rows)
				for _, at := range []time.Time{enforceTime, enforceTime.Add(time.Nanosecond), enforceTime.Add(-time.Nanosecond), seedTime, time.Now()} {
					requireNotifiedAgree(t, p, applyToSSO, at, rows)
				}
			})
		}
	})
}

func requireListsAgree(t *testing.T, p *process, policy enforcement.Policy, rows []row) {
	t.Helper()
	for _, state := range []enforcement.MFAState{enforcement.NotSetUp, enforcement.SetUp, enforcement.ManagedBySSO} {
		var want []string
		for _, r := range rows {
			if policy.MFAState(r.facts) == state {
				want = append(want, r.email)
			}
		}
		got := p.list(&authv1.ListAgentsRequest{Filter: "mfaState=" + string(state), PageSize: 200})
		require.ElementsMatch(t, want, emails(got), string(state))
		for _, a := range got {
			require.Equal(t, string(state), a.GetMfaState().String())
			require.Equal(t, map[enforcement.MFAState]string{
				enforcement.NotSetUp: "Two-Factor Authentication not setup", enforcement.ManagedBySSO: "Managed by SSO",
			}[state], a.GetMfaStatusMessage())
		}
	}
}

func requireCountsAgree(t *testing.T, p *process, applyToSSO bool, rows []row) {
	t.Helper()
	now := enforcement.Policy{Settings: enforcement.Settings{Enforced: true, ApplyToSSO: applyToSSO}, EnforceTime: time.Now()}
	want := &authv1.CountAgentsResponse{}
	for _, r := range rows {
		if r.facts.Active && now.Covers(r.facts) {
			want.Covered++
			if r.facts.HasFactor {
				want.Enrolled++
			}
		}
		if now.Notifies(r.facts) {
			want.ToNotify++
		}
	}
	got, err := p.agentsFor("gateway").CountAgents(t.Context(), &authv1.CountAgentsRequest{Account: "acme", ApplyToSso: applyToSSO})
	require.NoError(t, err)
	requireSame(t, want, got)
}

func requireNotifiedAgree(t *testing.T, p *process, applyToSSO bool, enforceTime time.Time, rows []row) {
	t.Helper()
	policy := enforcement.Policy{Settings: enforcement.Settings{Enforced: true, ApplyToSSO: applyToSSO}, EnforceTime: enforceTime}
	var want, got []string
	for _, r := range rows {
		if policy.Notifies(r.facts) {
			want = append(want, "accounts/acme/agents/"+r.id)
		}
	}
	slices.Sort(want)
	client := p.agentsFor("notifier")
	req := &authv1.ListAgentsToNotifyRequest{
		Account: "acme", EnforceTime: timestamppb.New(enforceTime), ApplyToSso: applyToSSO, PageSize: 17,
	}
	for {
		resp, err := client.ListAgentsToNotify(t.Context(), req)
		require.NoError(t, err)
		require.LessOrEqual(t, len(resp.GetRecipients()), 17)
		if len(resp.GetRecipients()) == 0 {
			break
		}
		for _, r := range resp.GetRecipients() {
			require.NotEmpty(t, r.GetEmail())
			require.NotEmpty(t, r.GetDisplayName())
			got = append(got, r.GetAgent())
		}
		req.AfterAgentId = got[len(got)-1][len("accounts/acme/agents/"):]
	}
	require.Equal(t, want, got)
}

// Pages in every order, with equal keys across their borders.
func TestListAgents_pagesInEveryOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		s.exec(`DELETE FROM links`)
		s.exec(`DELETE FROM agents`)
		var rows []row
		for i := range 23 {
			rows = append(rows, row{
				email: fmt.Sprintf("e%02d@example.com", (i*7)%23), name: fmt.Sprintf("Name %d", i%3),
				lastSignIn: time.Time{}, facts: enforcement.Agent{CreateTime: seedTime.Add(time.Duration(i%4) * time.Second)},
			})
			if i%5 > 0 {
				rows[i].lastSignIn = seedTime.Add(time.Duration(i%5) * time.Minute)
			}
		}
		s.seed(rows...)
		for order, compare := range map[string]func(a, b row) int{
			"displayName":    func(a, b row) int { return cmp.Compare(a.name, b.name) },
			"email":          func(a, b row) int { return cmp.Compare(a.email, b.email) },
			"createTime":     func(a, b row) int { return a.facts.CreateTime.Compare(b.facts.CreateTime) },
			"lastSignInTime": func(a, b row) int { return a.lastSignIn.Compare(b.lastSignIn) },
		} {
			sorted := slices.SortedFunc(slices.Values(rows), func(a, b row) int { return cmp.Or(compare(a, b), cmp.Compare(a.id, b.id)) })
			var want []string
			for _, r := range sorted {
				want = append(want, r.email)
			}
			for _, size := range []int32{0, 1, 4, 23, 200} {
				require.Equal(t, want, emails(p.list(&authv1.ListAgentsRequest{OrderBy: order, PageSize: size})), "%s by %d", order, size)
				if order == "displayName" {
					require.Equal(t, want, emails(p.list(&authv1.ListAgentsRequest{PageSize: size})))
				}
			}
			slices.Reverse(want)
			for _, size := range []int32{1, 4, 23} {
				require.Equal(t, want, emails(p.list(&authv1.ListAgentsRequest{OrderBy: order + " desc", PageSize: size})), "%s desc by %d", order, size)
			}
		}
	})
}

// A page token has room for the longest name, however it is written.
func TestListAgents_longNames(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	for i, letter := range []string{"<", "𝔘", "ß", "ΐ", "ﬃ", `"`} {
		_, err := p.agents().CreateAgent(asOperator(t.Context()), &authv1.CreateAgentRequest{
			Parent: "accounts/acme", Email: fmt.Sprintf("a%d@example.com", i), DisplayName: strings.Repeat(letter, 200),
		})
		require.NoError(t, err)
	}
	require.Len(t, p.list(&authv1.ListAgentsRequest{PageSize: 1, Query: "EXAMPLE"}), 7)
}

// Whoever comes or goes between two pages neither doubles nor hides the others.
func TestListAgents_changesBetweenPages(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		s.exec(`DELETE FROM links`)
		s.exec(`DELETE FROM agents`)
		s.seed(row{email: "b@example.com"}, row{email: "d@example.com"}, row{email: "f@example.com"})
		req := &authv1.ListAgentsRequest{Parent: "accounts/acme", OrderBy: "email", PageSize: 2}
		first, err := p.agents().ListAgents(asOperator(t.Context()), req)
		require.NoError(t, err)
		require.Equal(t, []string{"b@example.com", "d@example.com"}, emails(first.GetAgents()))
		s.exec(`DELETE FROM agents WHERE email = 'd@example.com'`)
		s.seed(row{email: "a@example.com"}, row{email: "e@example.com"})
		req.PageToken = first.GetNextPageToken()
		second, err := p.agents().ListAgents(asOperator(t.Context()), req)
		require.NoError(t, err)
		require.Equal(t, []string{"e@example.com", "f@example.com"}, emails(second.GetAgents()))
		require.Empty(t, second.GetNextPageToken())
	})
}

func TestListAgents_filterAndQuery(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		for email, name := range map[string]string{
			"ada@example.com": "Ada Lovelace", "zoe_x@example.com": "ZOË 100%", "zoeyx@example.com": "Straße Jose\u0301", "bob!@example.com": "Bob",
		} {
			req := newAgent(email)
			req.DisplayName = name
			_, err := p.agents().CreateAgent(as(t.Context(), owner), req)
			require.NoError(t, err)
		}
		s.seed(row{email: "old@example.com", name: "Old Ada", role: enforcement.RoleAdmin, state: "DEACTIVATED",
			facts: enforcement.Agent{HasPassword: true, HasFactor: true}})
		p.account("globex") // whose owner is in no list below

		for _, test := range []struct {
			filter, query string
			want          []string
		}{
			{"", "", []string{"ada@example.com", "zoe_x@example.com", "zoeyx@example.com", "bob!@example.com", "old@example.com", "owner@example.com"}},
			{"role=OWNER", "", []string{"owner@example.com"}},
			{"  role = ADMIN \t AND state=DEACTIVATED", "", []string{"old@example.com"}},
			{"role=ADMIN AND state=ACTIVE", "", nil},
			{"mfaState=SET_UP", "", []string{"old@example.com"}},
			{"mfaState=NOT_SET_UP AND role=AGENT AND state=INVITED", "ada", []string{"ada@example.com"}},
			{"", "ADA", []string{"ada@example.com", "old@example.com"}},
			{"", "  lace   aDa@ ", []string{"ada@example.com"}},
			{"", "ada bob", nil},
			{"", "zoë", []string{"zoe_x@example.com"}},
			{"", "STRASSE JOSÉ", []string{"zoeyx@example.com"}},
			{"", "%", []string{"zoe_x@example.com"}},
			{"", "zoe_x", []string{"zoe_x@example.com"}},
			{"", "!", []string{"bob!@example.com"}},
			{"", "!%", nil},
			{"", `\`, nil},
			{"", "' OR 1=1 --", nil},
			{"", "?", nil},
		} {
			for _, size := range []int32{0, 1} {
				got := p.list(&authv1.ListAgentsRequest{Filter: test.filter, Query: test.query, PageSize: size})
				require.ElementsMatch(t, test.want, emails(got), "filter %q, query %q", test.filter, test.query)
			}
		}
	})
}

func TestListAgents_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	p.agent("ada@example.com", authv1.Agent_AGENT)
	ctx, client := as(t.Context(), owner), p.agents()
	for reason, requests := range map[string][]*authv1.ListAgentsRequest{
		errs.ReasonInvalidFilter: {
			{Filter: "mfaState"}, {Filter: "mfaState="}, {Filter: "mfaState=not_set_up"}, {Filter: "mfaState=MFA_STATE_UNSPECIFIED"},
			{Filter: "mfa_state=SET_UP"}, {Filter: "role=ADMIN role=OWNER"}, {Filter: "role=ADMIN AND role=OWNER"},
			{Filter: "role=ADMIN AND"}, {Filter: "AND role=ADMIN"}, {Filter: "role=ADMIN and state=ACTIVE"}, {Filter: "role=ADMIN OR state=ACTIVE"},
			{Filter: "NOT role=ADMIN"}, {Filter: "role!=ADMIN"}, {Filter: `role="ADMIN"`}, {Filter: "(role=ADMIN)"}, {Filter: "email=a@example.com"},
			{Filter: "role=ADMIN' OR '1'='1"}, {Filter: "role=ADMIN\x00"}, {Filter: "role=ADMINAND state=ACTIVE"}, {Filter: "role=ADMIN\nAND state=ACTIVE"},
		},
		errs.ReasonInvalidOrderBy: {
			{OrderBy: "name"}, {OrderBy: "email asc"}, {OrderBy: "email DESC"}, {OrderBy: "email desc, createTime"},
			{OrderBy: "display_name"}, {OrderBy: "email;DROP TABLE agents"}, {OrderBy: "desc"},
		},
		errs.ReasonInvalidPageToken: {{PageToken: "x"}, {PageToken: strings.Repeat("A", 2048)}},
		errs.ReasonInvalidField: {
			{PageSize: -1}, {PageSize: 201}, {Query: "a\x00"}, {Query: "a b c d e f g h i j k"}, {Parent: "acme"}, {Parent: "accounts/acme/agents"},
		},
	} {
		for _, req := range requests {
			req.Parent = cmp.Or(req.GetParent(), "accounts/acme")
			_, err := client.ListAgents(ctx, req)
			testkit.RequireError(t, err, codes.InvalidArgument, reason)
			if reason == errs.ReasonInvalidFilter {
				require.ErrorContains(t, err, "mfaState=NOT_SET_UP", "says what is possible")
			}
		}
	}
	_, err := client.ListAgents(asOperator(t.Context()), &authv1.ListAgentsRequest{Parent: "accounts/nobody"})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)

	// A token belongs to its query, whose size of page may change.
	first, err := client.ListAgents(ctx, &authv1.ListAgentsRequest{Parent: "accounts/acme", PageSize: 1})
	require.NoError(t, err)
	token := first.GetNextPageToken()
	require.NotEmpty(t, token)
	for _, req := range []*authv1.ListAgentsRequest{
		{Filter: "role=AGENT"}, {OrderBy: "email"}, {OrderBy: "displayName desc"}, {Query: "ada"},
	} {
		req.Parent, req.PageToken = "accounts/acme", token
		_, err := client.ListAgents(ctx, req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidPageToken)
	}
	p.account("globex")
	_, err = client.ListAgents(asOperator(t.Context()), &authv1.ListAgentsRequest{Parent: "accounts/globex", PageToken: token})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidPageToken)
	second, err := client.ListAgents(ctx, &authv1.ListAgentsRequest{Parent: "accounts/acme", PageSize: 7, PageToken: token})
	require.NoError(t, err)
	require.Len(t, second.GetAgents(), 1)
}

func TestBatchGetAgents(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		var rows []row
		for i := range 300 { // more than one statement looks up
			rows = append(rows, row{facts: enforcement.Agent{HasSSO: i == 7}})
		}
		rows = s.seed(rows...)
		var names, want []string
		for i, r := range slices.Backward(rows) {
			name := "accounts/acme/agents/" + r.id
			names, want = append(names, name), append(want, name)
			if i%100 == 0 {
				names = append(names, "accounts/acme/agents/"+uuid.Must(uuid.NewV7()).String(), "accounts/acme/agents/x")
			}
		}
		client := p.agentsFor("notifier")
		resp, err := client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: names})
		require.NoError(t, err)
		var got []string
		for _, a := range resp.GetAgents() {
			got = append(got, a.GetName())
		}
		require.Equal(t, want, got)
		require.Equal(t, authv1.Agent_MANAGED_BY_SSO, resp.GetAgents()[299-7].GetMfaState())
		s.policies.set(enforcement.Settings{ApplyToSSO: true}, time.Time{})
		resp, err = client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: names})
		require.NoError(t, err)
		require.Equal(t, authv1.Agent_NOT_SET_UP, resp.GetAgents()[299-7].GetMfaState())

		// How they stand through SSO cannot be told without the policy.
		s.policies.switchOff(true)
		_, err = client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: names})
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		resp, err = client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: names[:1]})
		require.NoError(t, err)
		require.Len(t, resp.GetAgents(), 1)

		for _, bad := range [][]string{
			nil, {"acme"}, {""}, {names[0], "accounts/globex/agents/" + rows[0].id}, slices.Repeat(names[:1], 1001),
		} {
			_, err := client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: bad})
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		}
		resp, err = client.BatchGetAgents(t.Context(), &authv1.BatchGetAgentsRequest{Names: []string{"accounts/globex/agents/" + rows[0].id}})
		require.NoError(t, err)
		require.Empty(t, resp.GetAgents())
	})
}

func TestInternalReads_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	notifier, now := p.agentsFor("notifier"), timestamppb.Now()
	for _, req := range []*authv1.ListAgentsToNotifyRequest{
		{EnforceTime: now}, {Account: "acme"}, {Account: "ACME", EnforceTime: now}, {Account: "a\x00", EnforceTime: now},
		{Account: "acme", EnforceTime: now, PageSize: -1}, {Account: "acme", EnforceTime: now, PageSize: 5001},
		{Account: "acme", EnforceTime: now, AfterAgentId: "x\x00"}, {Account: "acme", EnforceTime: &timestamppb.Timestamp{Nanos: -1}},
	} {
		_, err := notifier.ListAgentsToNotify(t.Context(), req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	for _, account := range []string{"nobody", "NOBODY"} {
		_, err := notifier.CountAgents(t.Context(), &authv1.CountAgentsRequest{Account: account})
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	}
	_, err := notifier.CountAgents(t.Context(), &authv1.CountAgentsRequest{})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)

	// No person, not even the operator, and no other service.
	for _, call := range []func(authv1.AgentServiceClient, context.Context) error{
		func(c authv1.AgentServiceClient, ctx context.Context) error {
			_, err := c.BatchGetAgents(ctx, &authv1.BatchGetAgentsRequest{Names: []string{owner.GetName()}})
			return err
		},
		func(c authv1.AgentServiceClient, ctx context.Context) error {
			_, err := c.ListAgentsToNotify(ctx, &authv1.ListAgentsToNotifyRequest{Account: "acme", EnforceTime: now})
			return err
		},
		func(c authv1.AgentServiceClient, ctx context.Context) error {
			_, err := c.CountAgents(ctx, &authv1.CountAgentsRequest{Account: "acme"})
			return err
		},
	} {
		testkit.RequireError(t, call(p.agents(), as(t.Context(), owner)), codes.Unauthenticated, errs.ReasonCredentialsMissing)
		testkit.RequireError(t, call(p.agents(), asOperator(t.Context())), codes.Unauthenticated, errs.ReasonCredentialsMissing)
		testkit.RequireError(t, call(p.agentsFor("session"), t.Context()), codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	}
}
