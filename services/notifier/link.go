package notifier

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// errLinkVoid says that there is nothing to link to any more: the link was used, or
// replaced by a newer one, or its agent may not have it now.
var errLinkVoid = errors.New("notifier: the link is void")

// oneTimeLink is what the button of some mails opens. Its token is asked for when
// the mail is written, is in the mail alone, and is stored nowhere here.
type oneTimeLink struct {
	token      string
	expireTime time.Time
}

// linkPurpose says what kind of one-time link a mail carries; ok is false if none.
func linkPurpose(kind mail.Kind) (purpose authv1.IssueLinkRequest_Purpose, ok bool) {
	switch kind {
	case mail.KindInvitation:
		return authv1.IssueLinkRequest_INVITATION, true
	case mail.KindPasswordReset:
		return authv1.IssueLinkRequest_PASSWORD_RESET, true
	default:
		return 0, false
	}
}

// link asks for the one-time link of a notice, if its mail carries one. The same
// notice has the same token however often it asks.
func (p *people) link(ctx context.Context, n notice) (oneTimeLink, error) {
	purpose, ok := linkPurpose(n.kind)
	if !ok {
		return oneTimeLink{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := p.agents.IssueLink(ctx, &authv1.IssueLinkRequest{
		Agent: resource.AgentName{Account: n.account, Agent: n.agent}.String(), Purpose: purpose, EventId: n.eventID,
	})
	if status.Code(err) == codes.NotFound {
		return oneTimeLink{}, errLinkVoid
	}
	if err != nil {
		return oneTimeLink{}, fmt.Errorf("notifier: issue link: %w", err)
	}
	return oneTimeLink{token: resp.GetToken(), expireTime: timeOf(resp.GetExpireTime())}, nil
}

// linkWith is a link to a page with a one-time token. The token stands behind the
// #, so that browsers send it to no server, and no log and no Referer has it.
func (w *writer) linkWith(page, account string, l oneTimeLink) mail.Link {
	return w.link(page, account) + mail.Link("#"+url.Values{"token": {l.token}}.Encode())
}

// isForEarlierAddress reports whether a notice of the kind goes to the address in the
// notice, wherever the agent is written to now: it warns whoever reads the old one.
func isForEarlierAddress(kind mail.Kind) bool { return kind == mail.KindEmailChanged }

// addressee is to whom a notice goes, given what auth says of the agent now.
func addressee(n notice, to recipient) (email, displayName string) {
	if isForEarlierAddress(n.kind) {
		return n.email, n.displayName
	}
	return to.email, to.displayName
}
