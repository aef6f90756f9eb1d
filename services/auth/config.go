package auth

import (
	"errors"
	"fmt"
	"time"
)

// Config is what an operator may set; DefaultConfig is a complete one.
type Config struct {
	// Issuer is the name an authenticator app shows beside the account's.
	Issuer string
	// SignInLifetime is how long a sign-in token is good between the first
	// factor and the session.
	SignInLifetime time.Duration
	// EnrollmentLifetime is how long a set-up can be confirmed after it began.
	EnrollmentLifetime time.Duration
	// FreshFactor is how long a verified factor counts as fresh in its session.
	FreshFactor time.Duration
	// InvitationLifetime and PasswordResetLifetime are how long the one-time link in
	// such a mail is good after the mail was written.
	InvitationLifetime    time.Duration
	PasswordResetLifetime time.Duration
}

// DefaultConfig returns the lifetimes the documentation names.
func DefaultConfig() Config {
	return Config{
		Issuer:                "Twofold",
		SignInLifetime:        10 * time.Minute,
		EnrollmentLifetime:    10 * time.Minute,
		FreshFactor:           5 * time.Minute,
		InvitationLifetime:    72 * time.Hour,
		PasswordResetLifetime: 30 * time.Minute,
	}
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	var problems []error
	if c.Issuer == "" {
		problems = append(problems, errors.New("auth: Issuer must not be empty"))
	}
	for name, d := range map[string]time.Duration{
		"SignInLifetime": c.SignInLifetime, "EnrollmentLifetime": c.EnrollmentLifetime, "FreshFactor": c.FreshFactor,
		"InvitationLifetime": c.InvitationLifetime, "PasswordResetLifetime": c.PasswordResetLifetime,
	} {
		if d <= 0 {
			problems = append(problems, fmt.Errorf("auth: %s must be positive, got %s", name, d))
		}
	}
	return errors.Join(problems...)
}
