package enforcement_test

import (
	"go/build"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

const week = 7 * 24 * time.Hour

// monday is when the tests switch enforcement on.
var monday = time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)

// enforcedSince is a policy switched on at that time, with a week of grace.
func enforcedSince(start time.Time) enforcement.Policy {
	return enforcement.Policy{
		Settings:    enforcement.Settings{Enforced: true, GracePeriod: week},
		Revision:    1,
		EnforceTime: start,
	}
}

func TestChange(t *testing.T) {
	off := enforcement.Policy{
		Settings: enforcement.Settings{GracePeriod: week},
		Revision: 4,
	}
	on := enforcedSince(monday)
	tuesday := monday.Add(24 * time.Hour)

	for _, tc := range []struct {
		name       string
		policy     enforcement.Policy
		desired    enforcement.Settings
		transition enforcement.Transition
		after      enforcement.Policy
	}{
		{
			name:       "the first change of an account is revision 1",
			policy:     enforcement.Policy{},
			desired:    enforcement.Settings{Enforced: true, GracePeriod: week},
			transition: enforcement.Enabled,
			after: enforcement.Policy{
				Settings:    enforcement.Settings{Enforced: true, GracePeriod: week},
				Revision:    1,
				EnforceTime: tuesday,
			},
		},
		{
			name:       "enabling begins an enforcement now",
			policy:     off,
			desired:    enforcement.Settings{Enforced: true, GracePeriod: time.Hour},
			transition: enforcement.Enabled,
			after: enforcement.Policy{
				Settings:    enforcement.Settings{Enforced: true, GracePeriod: time.Hour},
				Revision:    5,
				EnforceTime: tuesday,
			},
		},
		{
			name:       "enabling what is enabled does not begin it again",
			policy:     on,
			desired:    on.Settings,
			transition: enforcement.Unchanged,
			after:      on,
		},
		{
			name:       "disabling what is disabled changes nothing",
			policy:     off,
			desired:    off.Settings,
			transition: enforcement.Unchanged,
			after:      off,
		},
		{
			name:       "a new grace period counts from the old enforce time",
			policy:     on,
			desired:    enforcement.Settings{Enforced: true, GracePeriod: 2 * week},
			transition: enforcement.Updated,
			after: enforcement.Policy{
				Settings:    enforcement.Settings{Enforced: true, GracePeriod: 2 * week},
				Revision:    2,
				EnforceTime: monday,
			},
		},
		{
			name:       "taking in SSO leaves the enforce time alone",
			policy:     on,
			desired:    enforcement.Settings{Enforced: true, GracePeriod: week, ApplyToSSO: true},
			transition: enforcement.Updated,
			after: enforcement.Policy{
				Settings:    enforcement.Settings{Enforced: true, GracePeriod: week, ApplyToSSO: true},
				Revision:    2,
				EnforceTime: monday,
			},
		},
		{
			name:       "disabling keeps the grace period for the next time and no enforce time",
			policy:     on,
			desired:    enforcement.Settings{GracePeriod: week},
			transition: enforcement.Disabled,
			after: enforcement.Policy{
				Settings: enforcement.Settings{GracePeriod: week},
				Revision: 2,
			},
		},
		{
			name:       "disabling together with another change is still disabling",
			policy:     on,
			desired:    enforcement.Settings{GracePeriod: time.Hour, ApplyToSSO: true},
			transition: enforcement.Disabled,
			after: enforcement.Policy{
				Settings: enforcement.Settings{GracePeriod: time.Hour, ApplyToSSO: true},
				Revision: 2,
			},
		},
		{
			name:       "the grace period can be set while enforcement is off",
			policy:     off,
			desired:    enforcement.Settings{GracePeriod: time.Hour},
			transition: enforcement.Updated,
			after: enforcement.Policy{
				Settings: enforcement.Settings{GracePeriod: time.Hour},
				Revision: 5,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after, transition := tc.policy.Change(tc.desired, tuesday)
			require.Equal(t, tc.transition, transition)
			require.Equal(t, tc.after, after)
		})
	}
}

// Switching off and on again is a decision of its own, which is why it is audited:
// it gives everybody a full grace period anew.
func TestChange_reEnabling_givesAFreshGracePeriod(t *testing.T) {
	on := enforcedSince(monday)
	wednesday := monday.Add(48 * time.Hour)

	off, _ := on.Change(enforcement.Settings{GracePeriod: week}, wednesday)
	again, transition := off.Change(enforcement.Settings{Enforced: true, GracePeriod: week}, wednesday.Add(time.Minute))

	require.Equal(t, enforcement.Enabled, transition)
	require.Equal(t, wednesday.Add(time.Minute), again.EnforceTime)
	require.Equal(t, wednesday.Add(time.Minute+week), again.SessionRevokeTime())
	require.Equal(t, int64(3), again.Revision)
}

func TestSessionRevokeTime(t *testing.T) {
	on := enforcedSince(monday)
	require.Equal(t, monday.Add(week), on.SessionRevokeTime())

	none, _ := on.Change(enforcement.Settings{Enforced: true}, monday.Add(time.Hour))
	require.Equal(t, monday, none.SessionRevokeTime(), "without a grace period sessions end at the enforce time")

	off, _ := on.Change(enforcement.Settings{GracePeriod: week}, monday.Add(time.Hour))
	require.True(t, off.SessionRevokeTime().IsZero(), "there is no revoke time while enforcement is off")
}

// The rule has to stay pure: no clock, no store, no context, no wire format.
func TestPackage_needsNothingButTime(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"time"}, pkg.Imports)
}
