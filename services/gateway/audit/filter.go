package audit

import (
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// maxValue is as long as a resource name may be.
const maxValue = 200

var (
	filterAnd  = regexp.MustCompile(`[ \t]+AND[ \t]+`)
	filterTerm = regexp.MustCompile(`^([a-zA-Z]+)[ \t]*(>=|<|=)[ \t]*([^\s<>=[:cntrl:]]+)$`)

	errFilter = errs.New(codes.InvalidArgument, errs.ReasonInvalidFilter,
		"A filter is made of terms joined by AND, each field at most once: actor= a resource name, a service or OPERATOR; "+
			"action=agent.resetMfa; subject= a resource name; result=OK or DENIED; "+
			"eventTime>= and eventTime< with a time such as 2026-01-31T00:00:00Z.").WithField("filter")
)

// parseFilter reads `actor=OPERATOR AND eventTime>=2026-01-31T00:00:00Z`. A part
// that it cannot read is an error: half a filter would show what was not asked for.
func parseFilter(filter string) (*auditv1.AuditFilter, error) {
	filter = strings.Trim(filter, " \t")
	if filter == "" {
		return nil, nil //nolint:nilnil // no filter admits all
	}
	f := &auditv1.AuditFilter{}
	for _, text := range filterAnd.Split(filter, -1) {
		term := filterTerm.FindStringSubmatch(text)
		if term == nil || len(term[3]) > maxValue || !addTerm(f, term[1]+term[2], term[3]) {
			return nil, errFilter
		}
	}
	return f, nil
}

// addTerm reports whether there is such a field, without a term yet, that can have
// the value.
func addTerm(f *auditv1.AuditFilter, field, value string) bool {
	switch field {
	case "actor=":
		return setText(&f.Actor, value)
	case "action=":
		return setText(&f.Action, value)
	case "subject=":
		return setText(&f.Subject, value)
	case "result=":
		if f.Result != auditv1.AuditEvent_RESULT_UNSPECIFIED {
			return false
		}
		f.Result = auditv1.AuditEvent_Result(auditv1.AuditEvent_Result_value[value])
		return f.GetResult() != auditv1.AuditEvent_RESULT_UNSPECIFIED
	case "eventTime>=":
		return setTime(&f.StartTime, value)
	case "eventTime<":
		return setTime(&f.EndTime, value)
	default:
		return false
	}
}

func setText(field *string, value string) bool {
	if *field != "" {
		return false
	}
	*field = value
	return true
}

func setTime(field **timestamppb.Timestamp, value string) bool {
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || *field != nil {
		return false
	}
	*field = timestamppb.New(at)
	return (*field).CheckValid() == nil
}
