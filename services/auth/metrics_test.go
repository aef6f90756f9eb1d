package auth_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// hashes returns how many passwords were hashed so far.
func (p *process) hashes() int {
	p.s.t.Helper()
	families, err := p.metrics.Gather()
	require.NoError(p.s.t, err)
	for _, family := range families {
		if family.GetName() == "twofold_auth_password_hashes_total" {
			return int(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	require.Fail(p.s.t, "no such metric")
	return 0
}

// What operators see of sign-ins and of guessing: outcomes, and never whose.
func TestMetrics_signInsAndGuesses(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.signIn()
	phone, done := w.enrolled()
	wrong := signInRequest()
	wrong.Password, wrong.Email = "a wrong password", "nobody@example.com"
	_, err := w.signIns().SignIn(t.Context(), wrong)
	require.Error(t, err)

	token := w.challenge()
	_, err = w.verify(token, phone.wrong())
	require.Error(t, err)
	_, err = w.verify(token, phone.at(0))
	require.NoError(t, err)
	require.NoError(t, w.recover(w.challenge(), done.GetRecoveryCodes()[0]))
	_, err = w.verify("no token", phone.at(1))
	require.Error(t, err)

	const want = `
		# HELP twofold_auth_second_factors_total Second factors given, by which and by outcome: OK or the reason of the refusal.
		# TYPE twofold_auth_second_factors_total counter
		twofold_auth_second_factors_total{factor="RECOVERY_CODE",outcome="OK"} 1
		twofold_auth_second_factors_total{factor="TOTP",outcome="CODE_INCORRECT"} 1
		twofold_auth_second_factors_total{factor="TOTP",outcome="OK"} 1
		# HELP twofold_auth_sign_ins_total First factors given, by which and by outcome: SESSION, CHALLENGE, ENROLLMENT_REQUIRED or the reason of the refusal.
		# TYPE twofold_auth_sign_ins_total counter
		twofold_auth_sign_ins_total{first_factor="PASSWORD",outcome="CHALLENGE"} 2
		twofold_auth_sign_ins_total{first_factor="PASSWORD",outcome="ENROLLMENT_REQUIRED"} 1
		twofold_auth_sign_ins_total{first_factor="PASSWORD",outcome="INVALID_CREDENTIALS"} 1
		twofold_auth_sign_ins_total{first_factor="PASSWORD",outcome="SESSION"} 1
	`
	require.NoError(t, testutil.GatherAndCompare(w.metrics, strings.NewReader(want),
		"twofold_auth_sign_ins_total", "twofold_auth_second_factors_total"))
}
