package session

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// toProto is a session as callers see it, without its token.
func (s *Service) toProto(rec *record, revokeTime time.Time) *sessionv1.Session {
	out := &sessionv1.Session{
		Name:           rec.ref.String(),
		Agent:          rec.ref.agentRef.String(),
		AssuranceLevel: sessionv1.Session_AAL1,
		FirstFactor:    rec.firstFactor,
		Role:           rec.role,
		Client:         &sessionv1.Client{Kind: rec.kind, UserAgent: s.packer.unpack.Replace(rec.userAgent), Address: rec.address},
		KeepMeLoggedIn: rec.keep,
		CreateTime:     timestamppb.New(rec.create),
		ExpireTime:     timestamppb.New(rec.expire),
		LastSeenTime:   timestamppb.New(rec.lastSeen.Truncate(time.Minute)),
	}
	if rec.lastSeen.Truncate(time.Minute).Before(rec.create) {
		out.LastSeenTime = out.GetCreateTime()
	}
	if rec.aal2 {
		out.AssuranceLevel = sessionv1.Session_AAL2
	}
	if !rec.factorVerify.IsZero() {
		out.FactorVerifyTime = timestamppb.New(rec.factorVerify)
	}
	if !revokeTime.IsZero() {
		out.PolicyRevokeTime = timestamppb.New(revokeTime)
	}
	return out
}

// newRecord is a session as a request wants it.
func (s *Service) newRecord(t token, req *sessionv1.CreateSessionRequest, now time.Time) *record {
	r := &record{
		ref: t.sessionRef, hash: t.hash(), agentVersion: req.GetAgentVersion(),
		aal2: req.GetAssuranceLevel() == sessionv1.Session_AAL2,
		keep: req.GetKeepMeLoggedIn(), firstFactor: req.GetFirstFactor(), role: req.GetRole(),
		kind:      req.GetClient().GetKind(),
		userAgent: s.packer.pack.Replace(cleanText(req.GetClient().GetUserAgent(), 256)),
		address:   cleanText(req.GetClient().GetAddress(), 64),
		create:    now, lastSeen: now,
	}
	r.expire = now.Add(s.cfg.age(r.keep))
	r.exempt = enforcement.Agent{Role: roleOf(r.role), HasPassword: req.GetHasPassword()}.ExemptVia(factorOf(r.firstFactor))
	if r.aal2 {
		r.factorVerify = now
	}
	return r
}

func roleOf(role sessionv1.Session_Role) enforcement.Role {
	switch role {
	case sessionv1.Session_AGENT:
		return enforcement.RoleAgent
	case sessionv1.Session_ADMIN:
		return enforcement.RoleAdmin
	case sessionv1.Session_OWNER:
		return enforcement.RoleOwner
	default:
		return ""
	}
}

func factorOf(f sessionv1.Session_FirstFactor) enforcement.FirstFactor {
	switch f {
	case sessionv1.Session_PASSWORD:
		return enforcement.Password
	case sessionv1.Session_SSO:
		return enforcement.SSO
	default:
		return ""
	}
}
