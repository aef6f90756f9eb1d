package auth_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const unknownAgent = "01920000-0000-7000-8000-000000000000"

func newAgent(email string) *authv1.CreateAgentRequest {
	return &authv1.CreateAgentRequest{Parent: "accounts/acme", Email: email, DisplayName: "Ada Lovelace"}
}

func TestCreateAgent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		req := newAgent("Ada@Example.com")
		req.Password, req.RequestId = goodPassword, "r1"
		made, err := p.agents().CreateAgent(as(t.Context(), owner), req)
		require.NoError(t, err)
		ada := made.GetAgent()
		require.Equal(t, "Ada@example.com", ada.GetEmail())
		require.Equal(t, authv1.Agent_AGENT, ada.GetRole(), "if no role is said")
		require.Equal(t, authv1.Agent_ACTIVE, ada.GetState())
		require.Equal(t, authv1.Agent_NOT_SET_UP, ada.GetMfaState())
		require.Equal(t, ada.GetCreateTime().AsTime(), ada.GetMfaStateTime().AsTime())
		requireSame(t, ada, p.get(ada.GetName()))

		again, err := p.agents().CreateAgent(as(t.Context(), owner), req)
		require.NoError(t, err)
		requireSame(t, made, again)
		req.Password = "another password"
		_, err = p.agents().CreateAgent(as(t.Context(), owner), req)
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)

		_, err = p.agents().CreateAgent(as(t.Context(), owner), newAgent("ADA@example.COM"))
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonEmailTaken)

		// The same address in another account is another person.
		p.account("globex")
		other := newAgent("ada@example.com")
		other.Parent = "accounts/globex"
		_, err = p.agents().CreateAgent(asOperator(t.Context()), other)
		require.NoError(t, err)
	})
}

func TestCreateAgent_oneAddressInParallel_oneIsMade(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		made, refused := inParallel(10, func(i int) error {
			req := newAgent([]string{"ada@example.com", "ADA@example.com"}[i%2])
			_, err := p.agents().CreateAgent(as(t.Context(), owner), req)
			return err
		})
		require.Equal(t, 1, made)
		for _, err := range refused {
			testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonEmailTaken)
		}
		require.Equal(t, int64(2), s.number(`SELECT count(*) FROM agents`))
	})
}

// A client that repeats before the first answer arrives. Whether the calls meet
// is chance, so there are many of them.
func TestCreateAgent_oneRequestInParallel_oneIsMadeAndAllGetIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		ctx, client := as(t.Context(), p.account("acme")), p.agents()
		for round := range 25 {
			names := make(chan string, 6)
			made, refused := inParallel(6, func(int) error {
				req := newAgent(fmt.Sprintf("ada%d@example.com", round))
				req.RequestId = fmt.Sprint("r", round)
				resp, err := client.CreateAgent(ctx, req)
				names <- resp.GetAgent().GetName()
				return err
			})
			require.Empty(t, refused)
			require.Equal(t, 6, made)
			first := <-names
			for range 5 {
				require.Equal(t, first, <-names)
			}
		}
	})
}

func TestCreateAgent_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	for name, test := range map[string]struct {
		change func(*authv1.CreateAgentRequest)
		code   codes.Code
		reason string
	}{
		"parent":           {func(r *authv1.CreateAgentRequest) { r.Parent = "acme" }, codes.InvalidArgument, errs.ReasonInvalidField},
		"role":             {func(r *authv1.CreateAgentRequest) { r.Role = 17 }, codes.InvalidArgument, errs.ReasonInvalidField},
		"no name":          {func(r *authv1.CreateAgentRequest) { r.DisplayName = "" }, codes.InvalidArgument, errs.ReasonInvalidField},
		"name of blanks":   {func(r *authv1.CreateAgentRequest) { r.DisplayName = "  " }, codes.InvalidArgument, errs.ReasonInvalidField},
		"name with a line": {func(r *authv1.CreateAgentRequest) { r.DisplayName = "Ada\r\nBcc: x" }, codes.InvalidArgument, errs.ReasonInvalidField},
		"request id":       {func(r *authv1.CreateAgentRequest) { r.RequestId = "\x00" }, codes.InvalidArgument, errs.ReasonInvalidField},
		"address":          {func(r *authv1.CreateAgentRequest) { r.Email = "Ada <ada@example.com>" }, codes.InvalidArgument, errs.ReasonEmailInvalid},
		"password":         {func(r *authv1.CreateAgentRequest) { r.Password = "short" }, codes.InvalidArgument, errs.ReasonPasswordUnacceptable},
		"unknown account":  {func(r *authv1.CreateAgentRequest) { r.Parent = "accounts/nobody" }, codes.NotFound, errs.ReasonResourceNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			req := newAgent("ada@example.com")
			test.change(req)
			_, err := p.agents().CreateAgent(as(t.Context(), owner), req)
			testkit.RequireError(t, err, test.code, test.reason)
		})
	}
	_, err := p.agents().CreateAgent(asOperator(t.Context()), &authv1.CreateAgentRequest{
		Parent: "accounts/nobody", Email: "ada@example.com", DisplayName: "Ada",
	})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	require.Equal(t, int64(1), p.s.number(`SELECT count(*) FROM agents`))
}

// Who may make whom.
func TestCreateAgent_roles(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
	agent := p.agent("agent@example.com", authv1.Agent_AGENT)
	n := 0
	create := func(token string, role authv1.Agent_Role) error {
		n++
		req := newAgent(fmt.Sprintf("new%d@example.com", n))
		req.Role = role
		made, err := p.agents().CreateAgent(with(t.Context(), token), req)
		if err == nil {
			require.Equal(t, role, made.GetAgent().GetRole())
		}
		return err
	}
	for _, role := range []authv1.Agent_Role{authv1.Agent_AGENT, authv1.Agent_ADMIN, authv1.Agent_OWNER} {
		require.NoError(t, create(operatorToken, role))
		require.NoError(t, create(token(owner.GetName(), authv1.Agent_OWNER), role))
		testkit.RequireError(t, create(token(agent.GetName(), authv1.Agent_AGENT), role),
			codes.PermissionDenied, errs.ReasonCallerNotPermitted)
		err := create(token(admin.GetName(), authv1.Agent_ADMIN), role)
		if role == authv1.Agent_OWNER {
			testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonOwnerRequired)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestImportAgents_answersEachRowInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
		hash := "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + strings.Repeat("A", 43)
		rows := []*authv1.ImportAgentsRequest_Row{
			{Email: "b@example.com", DisplayName: "Bea", Password: goodPassword},
			{Email: "a@example.com", DisplayName: "Abe", Role: authv1.Agent_ADMIN, PasswordHash: hash},
			{Email: "c@example.com", DisplayName: "Cyd"},
			{Email: "ADMIN@example.com", DisplayName: "Known"},
			{Email: "d@example.com", DisplayName: "Dan", Password: "short"},
			{Email: "D@example.com", DisplayName: "Dan, again"},
			{Email: "B@example.com", DisplayName: "Bea, twice"},
			{Email: "e@example", DisplayName: "Eve"},
			{Email: "e@example.com", DisplayName: "Eve\x00"},
			{Email: "e@example.com", DisplayName: "Eve", Role: authv1.Agent_OWNER},
			{Email: "e@example.com", DisplayName: "Eve", PasswordHash: "$1$md5$nope"},
			{Email: "e@example.com", DisplayName: "Eve", Password: goodPassword, PasswordHash: hash},
		}
		req := &authv1.ImportAgentsRequest{Parent: "accounts/acme", Agents: rows, SendInvitations: true, RequestId: "i1"}
		resp, err := p.agents().ImportAgents(as(t.Context(), admin), req)
		require.NoError(t, err)
		require.Len(t, resp.GetResults(), len(rows))

		var made []string
		for i, want := range []struct {
			email string
			state authv1.Agent_State
		}{{"b@example.com", authv1.Agent_ACTIVE}, {"a@example.com", authv1.Agent_ACTIVE}, {"c@example.com", authv1.Agent_INVITED}} {
			got := resp.GetResults()[i].GetAgent()
			require.Equal(t, want.email, got.GetEmail())
			require.Equal(t, want.state, got.GetState())
			requireSame(t, got, p.get(got.GetName()))
			made = append(made, got.GetName())
		}
		dan := resp.GetResults()[5].GetAgent()
		require.Equal(t, "D@example.com", dan.GetEmail(), "the row before it made nobody")
		made = append(made, dan.GetName())
		require.Equal(t, authv1.Agent_ADMIN, resp.GetResults()[1].GetAgent().GetRole())
		for i, reason := range map[int]string{
			3: errs.ReasonEmailTaken, 4: errs.ReasonPasswordUnacceptable, 6: errs.ReasonEmailTaken, 7: errs.ReasonEmailInvalid,
			8: errs.ReasonInvalidField, 9: errs.ReasonOwnerRequired, 10: errs.ReasonInvalidField, 11: errs.ReasonInvalidField,
		} {
			require.Equal(t, reason, resp.GetResults()[i].GetError().GetReason(), "row %d", i)
			require.NotEmpty(t, resp.GetResults()[i].GetError().GetMessage())
		}
		var stored string
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT hash FROM passwords p JOIN agents a ON a.id = p.agent_id
			WHERE a.email_key = 'a@example.com'`).Scan(&stored))
		require.Equal(t, hash, stored)
		require.Equal(t, int64(2), s.number(`SELECT count(*) FROM passwords`))

		// Again with the same id: the same answer. With another: everybody is there.
		again, err := p.agents().ImportAgents(as(t.Context(), admin), req)
		require.NoError(t, err)
		requireSame(t, resp, again)
		req.RequestId = ""
		repeated, err := p.agents().ImportAgents(as(t.Context(), admin), req)
		require.NoError(t, err)
		for i := range 4 {
			require.Equal(t, errs.ReasonEmailTaken, repeated.GetResults()[i].GetError().GetReason())
		}
		req.RequestId, req.SendInvitations = "i1", false
		_, err = p.agents().ImportAgents(as(t.Context(), admin), req)
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)

		// One event for all of it.
		p.background()
		imported := eventOf(t, s.published(1)[0], &authv1.AgentsImported{})
		requireSame(t, &authv1.AgentsImported{
			Account: "acme", Agents: made, SendInvitations: true,
			Actor: &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: admin.GetName(), DisplayName: admin.GetDisplayName()},
		}, imported)
	})
}

// Two people import the same list in two orders.
func TestImportAgents_inParallel_eachAddressOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		const n = 450 // more than one statement inserts or looks up
		results := make(chan *authv1.ImportAgentsResponse, 4)
		_, failures := inParallel(4, func(i int) error {
			req := &authv1.ImportAgentsRequest{Parent: "accounts/acme"}
			for j := range n {
				at := j
				if i%2 == 1 {
					at = n - 1 - j
				}
				req.Agents = append(req.Agents, &authv1.ImportAgentsRequest_Row{
					Email: fmt.Sprintf("a%d@example.com", at), DisplayName: fmt.Sprintf("Agent %d", at),
				})
			}
			resp, err := p.agents().ImportAgents(asOperator(t.Context()), req)
			results <- resp
			return err
		})
		require.Empty(t, failures)
		made := 0
		for range 4 {
			resp := <-results
			require.Len(t, resp.GetResults(), n)
			for _, r := range resp.GetResults() {
				if r.GetAgent() != nil {
					made++
				} else {
					require.Equal(t, errs.ReasonEmailTaken, r.GetError().GetReason())
				}
			}
		}
		require.Equal(t, n, made)
		require.Equal(t, int64(n+1), s.number(`SELECT count(*) FROM agents`))
	})
}

// An import gives way to people who sign in and goes on after them: it is not
// refused for being many.
func TestImportAgents_hashingBusy_waits(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.hashing = password.Config{Concurrency: 1, Queue: 1}
	p := s.start()
	p.account("acme")
	_, failures := inParallel(5, func(i int) error {
		req := &authv1.ImportAgentsRequest{Parent: "accounts/acme"}
		for j := range 2 {
			req.Agents = append(req.Agents, &authv1.ImportAgentsRequest_Row{
				Email: fmt.Sprintf("a%d-%d@example.com", i, j), DisplayName: "Ada", Password: goodPassword,
			})
		}
		resp, err := p.agents().ImportAgents(asOperator(t.Context()), req)
		for _, r := range resp.GetResults() {
			require.Equal(t, authv1.Agent_ACTIVE, r.GetAgent().GetState())
		}
		return err
	})
	require.Empty(t, failures)
	require.Equal(t, int64(10), s.number(`SELECT count(*) FROM passwords`))
}

// All or nothing: whoever gives up while passwords are hashed has imported nobody,
// least of all somebody without the password they were given.
func TestImportAgents_givenUp_makesNobody(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.hashing = password.Config{Concurrency: 1}
	p := s.start()
	p.account("acme")
	req := &authv1.ImportAgentsRequest{Parent: "accounts/acme"}
	for i := range 500 {
		req.Agents = append(req.Agents, &authv1.ImportAgentsRequest_Row{
			Email: fmt.Sprintf("a%d@example.com", i), DisplayName: "Ada", Password: goodPassword,
		})
	}
	ctx, cancel := context.WithTimeout(asOperator(t.Context()), time.Second)
	defer cancel()
	_, err := p.agents().ImportAgents(ctx, req)
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))

	for _, row := range req.GetAgents() {
		row.Password = ""
	}
	resp, err := p.agents().ImportAgents(asOperator(t.Context()), req)
	require.NoError(t, err)
	for _, r := range resp.GetResults() {
		require.NotNil(t, r.GetAgent())
	}
	require.Zero(t, s.number(`SELECT count(*) FROM passwords`))
}

func TestImportAgents_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	row := &authv1.ImportAgentsRequest_Row{Email: "a@example.com", DisplayName: "Abe"}
	tooMany := make([]*authv1.ImportAgentsRequest_Row, 1001)
	for i := range tooMany {
		tooMany[i] = row
	}
	for _, req := range []*authv1.ImportAgentsRequest{
		{Parent: "accounts/acme"}, {Parent: "accounts/acme", Agents: tooMany},
		{Parent: "acme", Agents: tooMany[:1]}, {Parent: "accounts/acme", Agents: tooMany[:1], RequestId: "\n"},
	} {
		_, err := p.agents().ImportAgents(as(t.Context(), owner), req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	_, err := p.agents().ImportAgents(asOperator(t.Context()),
		&authv1.ImportAgentsRequest{Parent: "accounts/nobody", Agents: tooMany[:1]})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	p.background()
	require.Zero(t, p.s.number(`SELECT count(*) FROM outbox WHERE event_type <> 'twofold.auth.v1.AgentInvited'`))
}

// Everything there is to ask about agents, asked by an admin of another account:
// one answer, whether the account or the agent exists or not.
func TestAgents_ofAnotherAccount_areLikeUnknown(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	stranger := p.account("globex")
	ctx := as(t.Context(), stranger)
	client := p.agents()
	answers := map[string]bool{}
	for _, account := range []string{"acme", "nobody", "NOBODY"} {
		parent := "accounts/" + account
		ids := []string{unknownAgent, strings.TrimPrefix(owner.GetName(), "accounts/acme/agents/"), "no-uuid"}
		for _, id := range ids {
			name := parent + "/agents/" + id
			_, err := client.GetAgent(ctx, &authv1.GetAgentRequest{Name: name})
			testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
			answers[err.Error()] = true
			_, err = client.ResetMfa(ctx, &authv1.ResetMfaRequest{Name: name, Reason: "\x00"})
			testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
			answers[err.Error()] = true
		}
		_, err := client.ListAgents(ctx, &authv1.ListAgentsRequest{Parent: parent, Filter: "nonsense"})
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		answers[err.Error()] = true
		_, err = client.CreateAgent(ctx, &authv1.CreateAgentRequest{
			Parent: parent, Email: "owner@example.com", DisplayName: "x", Role: authv1.Agent_OWNER, Password: "short",
		})
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		answers[err.Error()] = true
		_, err = client.ImportAgents(ctx, &authv1.ImportAgentsRequest{
			Parent: parent, Agents: []*authv1.ImportAgentsRequest_Row{{Email: "owner@example.com", DisplayName: "x"}},
		})
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		answers[err.Error()] = true
	}
	require.Len(t, answers, 1)
	require.Equal(t, int64(1), p.get(owner.GetName()).GetVersion())

	// In one's own account it is the agent that is unknown.
	_, err := client.GetAgent(ctx, &authv1.GetAgentRequest{Name: "accounts/globex/agents/" + unknownAgent})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	_, err = client.GetAgent(ctx, &authv1.GetAgentRequest{Name: "accounts/globex"})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	// An agent's id does not open another account's door.
	_, err = client.GetAgent(ctx, &authv1.GetAgentRequest{Name: strings.Replace(owner.GetName(), "acme", "globex", 1)})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
}

func TestGetAgent_policyUnreadable(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	owner := p.account("acme")
	s.policies.switchOff(true)
	_, err := p.agents().GetAgent(as(t.Context(), owner), &authv1.GetAgentRequest{Name: owner.GetName()})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	_, err = p.agents().ListAgents(as(t.Context(), owner), &authv1.ListAgentsRequest{Parent: "accounts/acme"})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
}
