package notifier

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

var (
	filterAnd  = regexp.MustCompile(`[ \t]+AND[ \t]+`)
	filterTerm = regexp.MustCompile(`^(state|kind|agent)[ \t]*=[ \t]*([A-Za-z0-9_/-]+)$`)

	errFilter = errs.New(codes.InvalidArgument, errs.ReasonInvalidFilter,
		"A filter is made of terms joined by AND, each field at most once: state=FAILED, kind=MFA_RESET, agent=accounts/{account}/agents/{agent}.").
		WithField("filter")
)

// newNoticeQuery reads `state=FAILED AND kind=MFA_RESET`. A part that it cannot
// read is an error: a filter that is half understood lists what it was meant to
// leave out. nobody says that no notice of the account can match.
func newNoticeQuery(account, filter string) (q noticeQuery, nobody bool, err error) {
	q = noticeQuery{account: account}
	filter = strings.Trim(filter, " \t")
	if filter == "" {
		return q, false, nil
	}
	seen := map[string]bool{}
	for _, text := range filterAnd.Split(filter, -1) {
		term := filterTerm.FindStringSubmatch(text)
		if term == nil || seen[term[1]] {
			return noticeQuery{}, false, errFilter
		}
		seen[term[1]] = true
		ok := true
		switch value := term[2]; term[1] {
		case "state":
			q.state, ok = state(value), slices.Contains(states(), state(value))
		case "kind":
			q.kind, ok = mail.Kind(value), slices.Contains(mail.Kinds(), mail.Kind(value))
		case "agent":
			name, parseErr := resource.ParseAgent("filter", value)
			ok = parseErr == nil || errors.Is(parseErr, resource.ErrNotFound)
			q.agent = name.Agent
			nobody = nobody || parseErr != nil || name.Account != account
		}
		if !ok {
			return noticeQuery{}, false, errFilter
		}
	}
	return q, nobody, nil
}
