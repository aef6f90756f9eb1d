package auth

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// What a sign-in came to that was not refused; a refused one has its reason.
const (
	outcomeSession            = "SESSION"
	outcomeChallenge          = "CHALLENGE"
	outcomeEnrollmentRequired = "ENROLLMENT_REQUIRED"
	// outcomeOK is a right answer for a second factor.
	outcomeOK = "OK"
)

type metrics struct {
	signIns *prometheus.CounterVec
	answers *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, passwords *password.Hasher) (*metrics, error) {
	m := &metrics{
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_auth_sign_ins_total",
			Help: "First factors given, by which and by outcome: SESSION, CHALLENGE, ENROLLMENT_REQUIRED or the reason of the refusal.",
		}, []string{"first_factor", "outcome"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_auth_second_factors_total",
			Help: "Second factors given, by which and by outcome: OK or the reason of the refusal.",
		}, []string{"factor", "outcome"}),
	}
	hashes := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "twofold_auth_password_hashes_total",
		Help: "Password hashes computed, to check a password or to store one.",
	}, func() float64 { return float64(passwords.Computed()) })
	if err := errors.Join(reg.Register(m.signIns), reg.Register(m.answers), reg.Register(hashes)); err != nil {
		return nil, fmt.Errorf("auth: metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) signedIn(first enforcement.FirstFactor, resp *authv1.SignInResponse, err error) {
	outcome := outcomeSession
	switch {
	case err != nil:
		outcome = reasonOf(err)
	case resp.GetChallenge() != nil:
		outcome = outcomeChallenge
	case resp.GetEnrollmentRequired() != nil:
		outcome = outcomeEnrollmentRequired
	}
	m.signIns.WithLabelValues(string(first), outcome).Inc()
}

func (m *metrics) answered(given answer, err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = reasonOf(err)
	}
	m.answers.WithLabelValues(given.kind.String(), outcome).Inc()
}

// reasonOf never returns what somebody sent: reasons are a closed list.
func reasonOf(err error) string {
	if reason := errs.ReasonOf(err); reason != "" {
		return reason
	}
	return errs.ReasonInternal
}
