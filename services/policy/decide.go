package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// MaxGracePeriod bounds every grace period: an enforcement that would begin to
// bite later than this is a plan and no policy.
const MaxGracePeriod = 90 * 24 * time.Hour

// The fields of a policy as a field mask names them.
const (
	fieldEnforced    = "enforced"
	fieldGracePeriod = "grace_period"
	fieldApplyToSSO  = "apply_to_sso"
)

var (
	errEtagMismatch = errs.New(codes.Aborted, errs.ReasonEtagMismatch,
		"The policy has changed since it was read. Read it again and repeat the change.").WithField("mfa_policy.etag")
	errAdminNotEnrolled = errs.New(codes.FailedPrecondition, errs.ReasonAdminNotEnrolled,
		"Set up two-factor authentication for yourself, and sign in with it, before you require it of everybody.")
)

// outcome is what a request makes of a policy at one moment.
type outcome struct {
	current, next policy
	transition    enforcement.Transition
}

// change is what a request asks for. It is pure: the same for a preview and for a
// save, and it may be asked any number of times.
type change struct {
	fields    []string // of the settable ones
	desired   enforcement.Settings
	etag      string // empty: whatever the policy is now
	minPeriod time.Duration
	// mayEnable says whether the caller has a second factor, or needs none.
	mayEnable bool
}

// newChange reads a policy and a mask as UpdateMfaPolicy takes them.
func newChange(wanted *policyv1.MfaPolicy, mask *fieldmaskpb.FieldMask, minPeriod time.Duration) (change, error) {
	fields, err := settable(mask)
	if err != nil {
		return change{}, err
	}
	period := wanted.GetGracePeriod()
	if period == nil && mask == nil {
		// A client that leaves it out does not mean zero, which would end
		// sessions at once.
		fields = slices.DeleteFunc(fields, func(f string) bool { return f == fieldGracePeriod })
	}
	c := change{fields: fields, etag: wanted.GetEtag(), minPeriod: minPeriod, mayEnable: true}
	c.desired.Enforced, c.desired.ApplyToSSO = wanted.GetEnforced(), wanted.GetApplyToSso()
	if slices.Contains(fields, fieldGracePeriod) {
		if c.desired.GracePeriod, err = periodOf(period); err != nil {
			return change{}, err
		}
	}
	return c, nil
}

// settable returns the fields a mask selects that can be set. A mask that is
// absent selects all. One that is there and selects nothing changes nothing:
// grpc-gateway derives such a mask from an empty JSON body, and `{}` must not
// switch enforcement off.
func settable(mask *fieldmaskpb.FieldMask) ([]string, error) {
	if mask == nil {
		return []string{fieldEnforced, fieldGracePeriod, fieldApplyToSSO}, nil
	}
	var fields []string
	for _, path := range mask.GetPaths() {
		switch path {
		case "*": // AIP-134: full replacement
			fields = append(fields, fieldEnforced, fieldGracePeriod, fieldApplyToSSO)
		case fieldEnforced, fieldGracePeriod, fieldApplyToSSO:
			fields = append(fields, path)
		case "name", "etag", "revision", "enforce_time", "session_revoke_time", "update_time":
			// AIP-203: output only fields are ignored, so that what was read can
			// be sent back.
		default:
			return nil, errs.New(codes.InvalidArgument, errs.ReasonFieldMaskInvalid,
				"The field mask may name enforced, grace_period and apply_to_sso.").WithField("update_mask")
		}
	}
	return fields, nil
}

// periodOf reads a grace period. Its range is judged later, once it is known
// whether it changes anything.
func periodOf(period *durationpb.Duration) (time.Duration, error) {
	invalid := errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.")
	const field = "mfa_policy.grace_period"
	if period == nil {
		return 0, invalid.WithViolation(field, "The grace period is missing.")
	}
	if err := period.CheckValid(); err != nil {
		return 0, invalid.WithViolation(field, "This is not a duration.").WithCause(err)
	}
	if period.GetNanos()%int32(time.Microsecond) != 0 {
		return 0, invalid.WithViolation(field, "The grace period has at most six decimal places.")
	}
	return period.AsDuration(), nil // saturated, and so out of every range, where it does not fit
}

// decide says what the change makes of the policy, or why it may not be made.
// now comes from the SQL clock.
func (c change) decide(current policy, now time.Time) (outcome, error) {
	if c.etag != "" && c.etag != current.etag() {
		return outcome{}, errEtagMismatch
	}
	settings := current.Settings
	for _, field := range c.fields {
		switch field {
		case fieldEnforced:
			settings.Enforced = c.desired.Enforced
		case fieldGracePeriod:
			settings.GracePeriod = c.desired.GracePeriod
		case fieldApplyToSSO:
			settings.ApplyToSSO = c.desired.ApplyToSSO
		}
	}
	rule, transition := current.Change(settings, now)
	if transition == enforcement.Unchanged {
		return outcome{current: current, next: current, transition: transition}, nil
	}
	// An older period below a limit raised since stays as it is, and must not
	// stand in the way of other changes; but no enforcement begins with it.
	if settings.GracePeriod != current.GracePeriod || transition == enforcement.Enabled {
		if err := checkPeriod(settings.GracePeriod, c.minPeriod); err != nil {
			return outcome{}, err
		}
	}
	if transition == enforcement.Enabled && !c.mayEnable {
		return outcome{}, errAdminNotEnrolled
	}
	next := policy{
		Policy: rule, account: current.account, updateTime: now,
		endedRevokeTime: current.endedRevokeTime,
	}
	if transition == enforcement.Disabled {
		next.endedRevokeTime = current.SessionRevokeTime()
	}
	return outcome{current: current, next: next, transition: transition}, nil
}

func checkPeriod(period, minPeriod time.Duration) error {
	if period >= minPeriod && period <= MaxGracePeriod {
		return nil
	}
	return errs.New(codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange,
		fmt.Sprintf("The grace period must be at least %s and at most %s.", spell(minPeriod), spell(MaxGracePeriod))).
		WithField("mfa_policy.grace_period").
		WithMetadata("minGracePeriod", inSeconds(minPeriod)).
		WithMetadata("maxGracePeriod", inSeconds(MaxGracePeriod))
}

// spell writes a duration for people: 2160h, not 2160h0m0s.
func spell(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// inSeconds writes a duration as protobuf's JSON does, which is how the API
// takes it.
func inSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
