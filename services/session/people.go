package session

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
)

var _ sessionv1.AgentSessionServiceServer = (*peopleServer)(nil)

// peopleServer serves people and their admins.
type peopleServer struct {
	sessionv1.UnsafeAgentSessionServiceServer
	*Service
}

// caller is the session that asks.
func caller(ctx context.Context) (sessionRef, error) {
	person := authz.FromContext(ctx).Person
	if person == nil {
		return sessionRef{}, errs.New(codes.Unauthenticated, errs.ReasonCredentialsMissing, "This call needs a session.")
	}
	return parseSession(person.SessionName, "session")
}

func (s *peopleServer) SignOut(ctx context.Context, _ *sessionv1.SignOutRequest) (*sessionv1.SignOutResponse, error) {
	self, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.revoke(ctx, ending{sessions: []sessionRef{self}}); err != nil {
		return nil, err
	}
	return &sessionv1.SignOutResponse{}, nil
}

func (s *peopleServer) ListMySessions(ctx context.Context, req *sessionv1.ListMySessionsRequest) (*sessionv1.ListMySessionsResponse, error) {
	self, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	sessions, next, err := s.list(ctx, self.agentRef, page{
		method: sessionv1.AgentSessionService_ListMySessions_FullMethodName, size: req.GetPageSize(), token: req.GetPageToken(),
	}, self.id)
	if err != nil {
		return nil, err
	}
	return &sessionv1.ListMySessionsResponse{Sessions: sessions, NextPageToken: next}, nil
}

func (s *peopleServer) RevokeMySession(ctx context.Context, req *sessionv1.RevokeMySessionRequest) (*sessionv1.RevokeMySessionResponse, error) {
	self, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	id, ok := parseID(req.GetSession())
	if !ok {
		return nil, errNotFound()
	}
	ref := sessionRef{agentRef: self.agentRef, id: id}
	// A session's key does not name its agent, and others share the bucket: what is
	// the caller's is what their index has.
	own, err := s.store.sessionsOf(ctx, self.agentRef)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(own, ref) {
		return nil, errNotFound()
	}
	n, err := s.revoke(ctx, ending{sessions: []sessionRef{ref}})
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errNotFound()
	}
	return &sessionv1.RevokeMySessionResponse{}, nil
}

func (s *peopleServer) RevokeMyOtherSessions(ctx context.Context, _ *sessionv1.RevokeMyOtherSessionsRequest) (*sessionv1.RevokeMyOtherSessionsResponse, error) {
	self, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	n, err := s.revokeAll(ctx, self.agentRef, self.id, nil)
	if err != nil {
		return nil, err
	}
	return &sessionv1.RevokeMyOtherSessionsResponse{Revoked: n}, nil
}

func (s *peopleServer) ListAgentSessions(ctx context.Context, req *sessionv1.ListAgentSessionsRequest) (*sessionv1.ListAgentSessionsResponse, error) {
	agent, err := parentAgent(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	current := uuid.Nil
	if self, err := caller(ctx); err == nil && self.agentRef == agent {
		current = self.id
	}
	sessions, next, err := s.list(ctx, agent, page{
		method: sessionv1.AgentSessionService_ListAgentSessions_FullMethodName, size: req.GetPageSize(), token: req.GetPageToken(),
	}, current)
	if err != nil {
		return nil, err
	}
	return &sessionv1.ListAgentSessionsResponse{Sessions: sessions, NextPageToken: next}, nil
}

func (s *peopleServer) RevokeAllAgentSessions(ctx context.Context, req *sessionv1.RevokeAllAgentSessionsRequest) (*sessionv1.RevokeAllAgentSessionsResponse, error) {
	agent, err := parentAgent(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	n, err := s.revokeAll(ctx, agent, uuid.Nil, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return &sessionv1.RevokeAllAgentSessionsResponse{Revoked: n}, nil
}

// parentAgent is the agent a request names, if the caller may know of them. An id
// that no agent can have is one of nobody.
func parentAgent(ctx context.Context, name string) (agentRef, error) {
	agent, err := parseAgent(name, "parent")
	if err != nil {
		return agent, errNotFound()
	}
	return agent, authz.FromContext(ctx).InAccount(agent.account)
}

// revokeAll ends all sessions of an agent but one. origin is the call, if the audit
// log tells of it.
func (s *Service) revokeAll(ctx context.Context, agent agentRef, but uuid.UUID, origin *eventv1.Origin) (int32, error) {
	refs, err := s.store.sessionsOf(ctx, agent)
	if err != nil {
		return 0, err
	}
	refs = slices.DeleteFunc(refs, func(ref sessionRef) bool { return ref.id == but })
	n, err := s.revoke(ctx, ending{sessions: refs, origin: origin})
	return int32(n), err //nolint:gosec // as many as one agent has
}

// page is which part of a list is asked for.
type page struct {
	method, token string
	size          int32
}

// listCursor is the last session of the page before.
type listCursor struct {
	ID uuid.UUID `json:"i"`
}

// list lists the live sessions of an agent, newest first: ids are in the order in
// which they were given out.
func (s *Service) list(ctx context.Context, agent agentRef, p page, current uuid.UUID) ([]*sessionv1.Session, string, error) {
	query := pagetoken.Query{Method: p.method, Parent: agent.String()}
	var after listCursor
	if p.token != "" {
		if err := s.pages.Decode(p.token, query, &after); err != nil {
			return nil, "", err
		}
	}
	refs, err := s.store.sessionsOf(ctx, agent)
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(refs, func(a, b sessionRef) int { return bytes.Compare(b.id[:], a.id[:]) })
	if p.token != "" {
		refs = slices.DeleteFunc(refs, func(ref sessionRef) bool { return bytes.Compare(ref.id[:], after.ID[:]) >= 0 })
	}
	now := s.clock()
	live, around, err := s.store.read(ctx, agent, refs, now)
	if err != nil {
		return nil, "", err
	}
	size, next := pageSize(p.size, 200), ""
	if len(live) > size {
		live = live[:size]
		if next, err = s.pages.Encode(query, listCursor{ID: live[size-1].record.ref.id}); err != nil {
			return nil, "", err
		}
	}
	out := make([]*sessionv1.Session, len(live))
	for i, l := range live {
		out[i] = s.toProto(l.record, around.known.judge(l.record.facts(), l.record.lowered, now).RevokeTime)
		out[i].Current = l.record.ref.id == current
	}
	return out, next, nil
}
