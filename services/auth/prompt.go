package auth

import (
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// What the sign-in screens tell people. The codes are for programs, which may
// translate; they keep their meaning.

// setUpRequired says what to do on a client that has no session to give yet.
func setUpRequired(kind sessionv1.Client_Kind) *authv1.Prompt {
	if kind == sessionv1.Client_MOBILE {
		return &authv1.Prompt{
			Code:  "MFA_SETUP_REQUIRED_MOBILE",
			Title: "Two-factor authentication is required",
			Message: "Your account requires two-factor authentication before you can sign in. " +
				"Set it up now with an authenticator app on this phone, or sign in on a computer and scan the QR code from there.",
		}
	}
	return &authv1.Prompt{
		Code:  "MFA_SETUP_REQUIRED",
		Title: "Set up two-factor authentication",
		Message: "Your account requires two-factor authentication before you can sign in. " +
			"Scan the QR code with an authenticator app on your phone, then type the six-digit code it shows.",
	}
}

// setUpComplete confirms a set-up.
func setUpComplete() *authv1.Prompt {
	return &authv1.Prompt{
		Code:  "MFA_SETUP_COMPLETE",
		Title: "Two-factor authentication is set up",
		Message: "From now on you sign in with your password and a code from your authenticator app. " +
			"Keep these recovery codes in a safe place: each of them signs you in once if you lose your phone, and they are not shown again.",
	}
}
