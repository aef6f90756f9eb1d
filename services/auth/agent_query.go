package auth

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// agentQuery is which agents to list and in which order.
type agentQuery struct {
	account  string
	mfaState enforcement.MFAState // empty: any
	role     enforcement.Role     // empty: any
	state    agentState           // empty: any
	words    []string             // folded
	order    agentOrder
}

// maxWords bounds the work of a search; nobody remembers more of a name.
const maxWords = 10

// newAgentQuery reads filter, query and order_by.
func newAgentQuery(account, filter, text, orderBy string) (agentQuery, error) {
	q := agentQuery{account: account}
	if err := q.readFilter(filter); err != nil {
		return agentQuery{}, err
	}
	var err error
	if q.order, err = newAgentOrder(orderBy); err != nil {
		return agentQuery{}, err
	}
	if q.words, err = searchWords(text); err != nil {
		return agentQuery{}, err
	}
	return q, nil
}

var (
	filterAnd  = regexp.MustCompile(`[ \t]+AND[ \t]+`)
	filterTerm = regexp.MustCompile(`^([a-zA-Z]+)[ \t]*=[ \t]*([A-Z_]+)$`)

	errFilter = errs.New(codes.InvalidArgument, errs.ReasonInvalidFilter,
		"A filter is made of terms joined by AND, each field at most once: mfaState=NOT_SET_UP, SET_UP or MANAGED_BY_SSO; "+
			"role=AGENT, ADMIN or OWNER; state=INVITED, ACTIVE or DEACTIVATED.").WithField("filter")
)

// readFilter reads `mfaState=NOT_SET_UP AND role=ADMIN`. A part that it cannot
// read is an error: a filter that is half understood lists people it was meant
// to leave out.
func (q *agentQuery) readFilter(filter string) error {
	filter = strings.Trim(filter, " \t")
	if filter == "" {
		return nil
	}
	for _, text := range filterAnd.Split(filter, -1) {
		term := filterTerm.FindStringSubmatch(text)
		if term == nil || !q.addTerm(term[1], term[2]) {
			return errFilter
		}
	}
	return nil
}

// addTerm reports whether the field exists, has no term yet, and can have the
// value.
func (q *agentQuery) addTerm(field, value string) bool {
	switch field {
	case "mfaState":
		return setOnce(&q.mfaState, value, enforcement.NotSetUp, enforcement.SetUp, enforcement.ManagedBySSO)
	case "role":
		return setOnce(&q.role, value, enforcement.RoleAgent, enforcement.RoleAdmin, enforcement.RoleOwner)
	case "state":
		return setOnce(&q.state, value, stateInvited, stateActive, stateDeactivated)
	default:
		return false
	}
}

func setOnce[T ~string](field *T, value string, possible ...T) bool {
	if *field != "" {
		return false
	}
	for _, p := range possible {
		if string(p) == value {
			*field = p
			return true
		}
	}
	return false
}

// agentOrder is a column and a direction. Agents with the same value are ordered
// by id, in the same direction.
type agentOrder struct {
	column  string
	numeric bool
	desc    bool
}

var errOrderBy = errs.New(codes.InvalidArgument, errs.ReasonInvalidOrderBy,
	"Agents can be ordered by displayName, email, createTime or lastSignInTime, each with desc after it if wanted.").WithField("order_by")

func newAgentOrder(orderBy string) (agentOrder, error) {
	fields := strings.Fields(orderBy)
	if len(fields) == 0 {
		fields = []string{"displayName"}
	}
	var order agentOrder
	switch fields[0] {
	case "displayName":
		order.column = "name_key"
	case "email":
		order.column = "email_key"
	case "createTime":
		order.column, order.numeric = "create_time", true
	case "lastSignInTime":
		order.column, order.numeric = "last_sign_in_time", true
	default:
		return agentOrder{}, errOrderBy
	}
	switch {
	case len(fields) == 1:
	case len(fields) == 2 && fields[1] == "desc":
		order.desc = true
	default:
		return agentOrder{}, errOrderBy
	}
	return order, nil
}

// searchWords splits what a person typed.
func searchWords(text string) ([]string, error) {
	invalid := errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The search text is not usable.")
	if strings.ContainsRune(text, 0) { // PostgreSQL has no text with it
		return nil, invalid.WithViolation("query", "It must be text without control characters.")
	}
	words := strings.Fields(fold(text))
	if len(words) > maxWords {
		return nil, invalid.WithViolation("query", fmt.Sprintf("It has at most %d words.", maxWords))
	}
	return words, nil
}

// fold brings text into the form in which names are compared: whatever the case,
// and however its accents were typed.
func fold(text string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(text)))
}

// likeEscape makes a word mean itself in LIKE … ESCAPE '!'.
func likeEscape(word string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(word)
}
