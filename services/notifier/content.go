package notifier

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

const (
	// factorName is what the only kind of factor is called.
	factorName = "Authenticator app"
	// operatorName is what the people who run the suite are called.
	operatorName = "The platform team"
)

// The pages that mails lead to.
const (
	setUpPage         = "set-up"
	profilePage       = "profile"
	signInPage        = "sign-in"
	invitationPage    = "accept-invitation"
	resetPasswordPage = "reset-password"
)

// writer puts notices into words.
type writer struct {
	renderer  *mail.Renderer
	publicURL string
}

// context is what a mail says beside its notice.
type circumstances struct {
	terms       terms
	accountName string
	// adminName is who caused it.
	adminName string
	// previous is the later deadline that the agent was told before.
	previous time.Time
	// link is the one-time link of a mail that carries one.
	link oneTimeLink
}

// write makes the mail of a notice. The same notice makes the same Message-ID.
func (w *writer) write(n notice, c circumstances) (*mail.Message, error) {
	content, err := w.content(n, c)
	if err != nil {
		return nil, err
	}
	message, err := w.renderer.Render(mail.Envelope{
		To: n.email, NoticeID: n.id, EventID: n.eventID, Date: n.createTime,
	}, content)
	if err != nil {
		return nil, fmt.Errorf("notifier: write mail: %w", err)
	}
	return message, nil
}

func (w *writer) content(n notice, c circumstances) (mail.Content, error) {
	switch n.kind {
	case mail.KindEnforcementEnabled:
		return mail.EnforcementEnabled{
			AgentName: n.displayName, AccountName: c.accountName, AdminName: c.adminName,
			EnforceTime: c.terms.enforceTime, SessionRevokeTime: c.terms.revokeTime,
			PreviousSessionRevokeTime: c.previous, SetUpURL: w.link(setUpPage, n.account),
		}, nil
	case mail.KindInvitation, mail.KindPasswordReset, mail.KindPasswordChanged, mail.KindEmailChanged:
		return w.signInContent(n, c), nil
	case mail.KindEnforcementLifted:
		return mail.EnforcementLifted{
			AgentName: n.displayName, AccountName: c.accountName, AdminName: c.adminName,
			LiftTime: c.terms.changeTime, ProfileURL: w.link(profilePage, n.account),
		}, nil
	case mail.KindMFAReset:
		return mail.MFAReset{
			AgentName: n.displayName, AccountName: c.accountName, AdminName: c.adminName,
			ResetTime: n.facts.Time, Reason: mail.FreeText(n.facts.Reason), Required: c.terms.enforced,
			SignInURL: w.link(signInPage, n.account),
		}, nil
	case mail.KindFactorAdded:
		return mail.FactorAdded{
			AgentName: n.displayName, AccountName: c.accountName, FactorName: factorName,
			AddTime: n.facts.Time, SecurityURL: w.link(profilePage, n.account),
		}, nil
	case mail.KindFactorRemoved:
		return mail.FactorRemoved{
			AgentName: n.displayName, AccountName: c.accountName, FactorName: factorName,
			RemoveTime: n.facts.Time, SecurityURL: w.link(profilePage, n.account),
		}, nil
	case mail.KindRecoveryCodeUsed:
		return mail.RecoveryCodeUsed{
			AgentName: n.displayName, AccountName: c.accountName, UseTime: n.facts.Time,
			CodesLeft: n.facts.CodesLeft, SecurityURL: w.link(profilePage, n.account),
		}, nil
	default:
		return nil, fmt.Errorf("notifier: no words for a notice of kind %q", n.kind)
	}
}

// signInContent is what mails say about how an agent signs in.
func (w *writer) signInContent(n notice, c circumstances) mail.Content {
	switch n.kind {
	case mail.KindInvitation:
		return mail.Invitation{
			AgentName: n.displayName, AccountName: c.accountName, AdminName: c.adminName,
			ExpireTime: c.link.expireTime, Required: c.terms.enforced,
			AcceptURL: w.linkWith(invitationPage, n.account, c.link),
		}
	case mail.KindPasswordReset:
		return mail.PasswordReset{
			AgentName: n.displayName, AccountName: c.accountName, RequestTime: n.facts.Time,
			ExpireTime: c.link.expireTime, ResetURL: w.linkWith(resetPasswordPage, n.account, c.link),
		}
	case mail.KindEmailChanged:
		return mail.EmailChanged{
			AgentName: n.displayName, AccountName: c.accountName, AdminName: c.adminName, ChangeTime: n.facts.Time,
			NewAddress: n.facts.MaskedEmail, SignInURL: w.link(signInPage, n.account),
		}
	default:
		return mail.PasswordChanged{
			AgentName: n.displayName, AccountName: c.accountName, ChangeTime: n.facts.Time,
			First:  n.facts.Cause == authv1.PasswordChanged_INVITATION.String(),
			ByLink: n.facts.Cause == authv1.PasswordChanged_RESET.String(), SecurityURL: w.link(profilePage, n.account),
		}
	}
}

func (w *writer) link(page, account string) mail.Link {
	return mail.Link(strings.TrimSuffix(w.publicURL, "/") + "/" + page + "?" + url.Values{"account": {account}}.Encode())
}

// cause is who is named in the mail of a notice: who reset a factor, who switched
// enforcement on, or who moved its date for those who knew an earlier one.
func cause(n notice, t terms, previous time.Time) actor {
	switch {
	case !isOfPolicy(n.kind):
		return n.facts.Actor
	case n.kind == mail.KindEnforcementEnabled && previous.IsZero():
		return t.enabledBy
	default:
		return t.changedBy
	}
}

// agentID is the bare id of the actor, if it is an agent of the account whose name
// the event did not say.
func (a actor) agentID(account string) (id string, ok bool) {
	if a.Name != "" || a.Agent == "" {
		return "", false
	}
	name, err := resource.ParseAgent("name", a.Agent)
	return name.Agent, err == nil && name.Account == account
}

// call says how to call the actor; empty if nobody knows.
func (a actor) call(account string, agents map[string]*authv1.Agent) string {
	if id, ok := a.agentID(account); ok {
		return agents[id].GetDisplayName()
	}
	if a.Name == "" && a.Operator {
		return operatorName
	}
	return a.Name
}
