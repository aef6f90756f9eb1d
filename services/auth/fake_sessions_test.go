package auth_test

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// fakeSessions is the part of the session service that auth calls.
type fakeSessions struct {
	sessionv1.UnimplementedSessionServiceServer

	mu      sync.Mutex
	minimum map[string]int64 // by agent name
	calls   []*sessionv1.RevokeAgentSessionsRequest
	// revoke is asked before RevokeAgentSessions does anything; nil is yes.
	revoke func(ctx context.Context) error

	made madeSessions
}

func newFakeSessions() *fakeSessions {
	return &fakeSessions{minimum: map[string]int64{}, made: newMadeSessions()}
}

func (f *fakeSessions) RevokeAgentSessions(
	ctx context.Context, req *sessionv1.RevokeAgentSessionsRequest,
) (*sessionv1.RevokeAgentSessionsResponse, error) {
	f.mu.Lock()
	revoke := f.revoke
	f.mu.Unlock()
	if revoke != nil {
		if err := revoke(ctx); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, req)
	f.minimum[req.GetAgent()] = max(f.minimum[req.GetAgent()], req.GetAgentVersion())
	f.made.endBelow(req)
	return &sessionv1.RevokeAgentSessionsResponse{}, nil
}

// onRevoke decides about later calls.
func (f *fakeSessions) onRevoke(revoke func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoke = revoke
}

// below returns the version below which an agent's sessions have ended.
func (f *fakeSessions) below(agentName string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.minimum[agentName]
}

// verify believes tokens of [token], and asks about those of sessions it made.
func (f *fakeSessions) verify(_ context.Context, token string) (*authz.Person, error) {
	if verdict := f.verdict(token); verdict != nil {
		return authz.NewPerson(verdict)
	}
	parts := strings.Split(token, ":")
	if len(parts) != 3 {
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "Unknown.")
	}
	return authz.NewPerson(&sessionv1.ValidateSessionResponse{Session: &sessionv1.Session{
		Name: parts[0] + "/sessions/s", Agent: parts[0],
		Role:           sessionv1.Session_Role(sessionv1.Session_Role_value[parts[1]]),
		AssuranceLevel: sessionv1.Session_AssuranceLevel(sessionv1.Session_AssuranceLevel_value[parts[2]]),
	}})
}

// madeSessions are the sessions that a fakeSessions made. Its lock guards them.
type madeSessions struct {
	byName   map[string]*sessionv1.Session // with their tokens
	versions map[string]int64              // by session name
	revision map[string]int64              // the newest policy known, by account
	made     int
	now      func() time.Time
	// before is asked before a session is made or replaced; nil is yes.
	before func(ctx context.Context) error
	last   *sessionv1.CreateSessionRequest
}

func newMadeSessions() madeSessions {
	return madeSessions{
		byName: map[string]*sessionv1.Session{}, versions: map[string]int64{}, revision: map[string]int64{}, now: time.Now,
	}
}

func (m *madeSessions) endBelow(req *sessionv1.RevokeAgentSessionsRequest) {
	for name, session := range m.byName {
		switch {
		case session.GetAgent() != req.GetAgent() || m.versions[name] >= req.GetAgentVersion():
		case name == req.GetKeepSession():
			m.versions[name] = req.GetAgentVersion()
			if req.GetLowerKept() {
				session.AssuranceLevel, session.FactorVerifyTime = sessionv1.Session_AAL1, nil
			}
		default:
			delete(m.byName, name)
		}
	}
}

func (f *fakeSessions) ask(ctx context.Context) error {
	f.mu.Lock()
	before := f.made.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx)
}

// stale is the fence: the caller holds the lock.
func (f *fakeSessions) stale(agentName string, version int64, e *sessionv1.Enforcement) error {
	switch {
	case version < f.minimum[agentName]:
		return errs.New(codes.Aborted, errs.ReasonAgentVersionStale, "Stale version.")
	case e.GetRevision() < f.made.revision[e.GetAccount()]:
		return errs.New(codes.Aborted, errs.ReasonPolicyRevisionStale, "Stale revision.")
	}
	return nil
}

func (f *fakeSessions) CreateSession(
	ctx context.Context, req *sessionv1.CreateSessionRequest,
) (*sessionv1.CreateSessionResponse, error) {
	if err := f.ask(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.stale(req.GetAgent(), req.GetAgentVersion(), req.GetEnforcement()); err != nil {
		return nil, err
	}
	f.made.last = req
	session := &sessionv1.Session{
		Name: req.GetAgent() + "/sessions/" + rand.Text(), Token: "session-" + rand.Text(), Agent: req.GetAgent(),
		AssuranceLevel: req.GetAssuranceLevel(), FirstFactor: req.GetFirstFactor(), Role: req.GetRole(),
		Client: req.GetClient(), KeepMeLoggedIn: req.GetKeepMeLoggedIn(), CreateTime: timestamppb.New(f.made.now()),
	}
	if session.GetAssuranceLevel() == sessionv1.Session_AAL2 {
		session.FactorVerifyTime = session.GetCreateTime()
	}
	f.keep(session, req.GetAgentVersion())
	return &sessionv1.CreateSessionResponse{Session: proto.CloneOf(session)}, nil
}

func (f *fakeSessions) keep(session *sessionv1.Session, version int64) {
	f.made.byName[session.GetName()], f.made.versions[session.GetName()] = session, version
	f.made.made++
}

func (f *fakeSessions) ReissueSession(
	ctx context.Context, req *sessionv1.ReissueSessionRequest,
) (*sessionv1.ReissueSessionResponse, error) {
	if err := f.ask(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.made.byName[req.GetName()]
	if !ok {
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionRevoked, "Over.")
	}
	if err := f.stale(old.GetAgent(), req.GetAgentVersion(), req.GetEnforcement()); err != nil {
		return nil, err
	}
	session := proto.CloneOf(old)
	session.Name, session.Token = old.GetAgent()+"/sessions/"+rand.Text(), "session-"+rand.Text()
	session.AssuranceLevel = sessionv1.Session_AAL2
	session.FactorVerifyTime = timestamppb.New(f.made.now())
	delete(f.made.byName, req.GetName())
	f.keep(session, req.GetAgentVersion())
	return &sessionv1.ReissueSessionResponse{Session: proto.CloneOf(session)}, nil
}

func (f *fakeSessions) ValidateSession(
	ctx context.Context, req *sessionv1.ValidateSessionRequest,
) (*sessionv1.ValidateSessionResponse, error) {
	if err := f.ask(ctx); err != nil {
		return nil, err
	}
	verdict := f.verdict(req.GetToken())
	if verdict == nil {
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "Unknown.")
	}
	verdict.Session.Token = ""
	return verdict, nil
}

// verdict is that on a token that stands, or nil.
func (f *fakeSessions) verdict(token string) *sessionv1.ValidateSessionResponse {
	session := f.byToken(token)
	if session == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &sessionv1.ValidateSessionResponse{Session: session, AgentVersion: f.made.versions[session.GetName()]}
}

func (f *fakeSessions) byToken(token string) *sessionv1.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, session := range f.made.byName {
		if session.GetToken() == token {
			return proto.CloneOf(session)
		}
	}
	return nil
}

// makes returns how many sessions were made or reissued.
func (f *fakeSessions) makes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made.made
}

func (f *fakeSessions) lastMade() *sessionv1.CreateSessionRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made.last
}

// onMake decides about later sessions.
func (f *fakeSessions) onMake(before func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made.before = before
}

// knows tells of a newer policy of acme.
func (f *fakeSessions) knows(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made.revision["acme"] = revision
}
