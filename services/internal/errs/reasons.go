package errs

// The reasons. Each comment names the gRPC code and says what whoever reads the
// error should do; docs/errors.md is checked against this list. A reason, once
// released, keeps its meaning and its code.
const (
	// UNAUTHENTICATED: the call needs a session, an operator token or a client certificate; send one.
	ReasonCredentialsMissing = "CREDENTIALS_MISSING"
	// UNAUTHENTICATED: the authorization is not one `Bearer` token; correct the client.
	ReasonCredentialsMalformed = "CREDENTIALS_MALFORMED"
	// UNAUTHENTICATED: account, email address or password is wrong, or the agent may not sign in (never said which); try again.
	ReasonInvalidCredentials = "INVALID_CREDENTIALS"
	// UNAUTHENTICATED: the account requires a second factor and the time to set one up is over; sign in and set it up.
	ReasonSessionEndedByMFAPolicy = "SESSION_ENDED_BY_MFA_POLICY"
	// UNAUTHENTICATED: the session was ended by a sign-out, a reset, an admin or a change of credentials; sign in again.
	ReasonSessionRevoked = "SESSION_REVOKED"
	// UNAUTHENTICATED: the session was idle for too long or reached its age limit; sign in again.
	ReasonSessionExpired = "SESSION_EXPIRED"
	// UNAUTHENTICATED: the store of sessions was lost, and all sessions with it; sign in again.
	ReasonSessionStoreLost = "SESSION_STORE_LOST"
	// UNAUTHENTICATED: the token is no session's; sign in.
	ReasonSessionUnknown = "SESSION_UNKNOWN"
	// UNAUTHENTICATED: the sign-in token is unknown, used up, replaced or too old; begin the sign-in again.
	ReasonSignInExpired = "SIGN_IN_EXPIRED"
	// UNAUTHENTICATED: the link of a mail is unknown, used, replaced or too old (never said which); ask for a new one.
	ReasonLinkExpired = "LINK_EXPIRED"

	// PERMISSION_DENIED: this kind of caller, or this role, may not call the method; ask an admin of the account.
	ReasonCallerNotPermitted = "CALLER_NOT_PERMITTED"
	// PERMISSION_DENIED: only an owner, or the operator, may do this to an owner; ask an owner.
	ReasonOwnerRequired = "OWNER_REQUIRED"
	// PERMISSION_DENIED: the factor was not used within the last minutes; call me:verifyFactor, then repeat the call with its new session.
	ReasonStepUpRequired = "STEP_UP_REQUIRED"

	// PERMISSION_DENIED: a browser made the call from a page of another origin; make it from the gateway's own, or without a browser.
	ReasonCrossOriginRefused = "CROSS_ORIGIN_REFUSED"

	// NOT_FOUND: there is no such resource, or none that this caller may know of; check the name.
	ReasonResourceNotFound = "RESOURCE_NOT_FOUND"
	// ALREADY_EXISTS: the account id is taken; choose another.
	ReasonAccountExists = "ACCOUNT_EXISTS"
	// ALREADY_EXISTS: an agent of the account has this email address; use another address or that agent.
	ReasonEmailTaken = "EMAIL_TAKEN"
	// ALREADY_EXISTS: the request_id was used for a different request; use a fresh one for each new request.
	ReasonRequestIDReused = "REQUEST_ID_REUSED"

	// INVALID_ARGUMENT: the fields named in the details break a rule of the message; correct them.
	ReasonInvalidField = "INVALID_FIELD"
	// INVALID_ARGUMENT: the request holds a field or query parameter that the method does not have; remove it.
	ReasonUnknownField = "UNKNOWN_FIELD"
	// INVALID_ARGUMENT: the body is not JSON of the expected shape; correct it.
	ReasonMalformedJSON = "MALFORMED_JSON"
	// INVALID_ARGUMENT: the bytes are not a message of the expected type; generate the client from the current protos.
	ReasonMalformedMessage = "MALFORMED_MESSAGE"
	// INVALID_ARGUMENT: the page token is damaged, or belongs to another query; start again at the first page.
	ReasonInvalidPageToken = "INVALID_PAGE_TOKEN"
	// INVALID_ARGUMENT: the filter cannot be read, or names an unknown field; see the method's documentation.
	ReasonInvalidFilter = "INVALID_FILTER"
	// INVALID_ARGUMENT: the order names an unknown field or direction; see the method's documentation.
	ReasonInvalidOrderBy = "INVALID_ORDER_BY"
	// INVALID_ARGUMENT: the field mask names an unknown field, or a part of one (fields the suite sets are ignored); correct it.
	ReasonFieldMaskInvalid = "FIELD_MASK_INVALID"
	// INVALID_ARGUMENT: the grace period is outside the limits this installation sets; choose one within.
	ReasonGracePeriodOutOfRange = "GRACE_PERIOD_OUT_OF_RANGE"
	// INVALID_ARGUMENT: a code is exactly six ASCII digits; ask the person to type it again.
	ReasonTOTPCodeMalformed = "TOTP_CODE_MALFORMED"
	// INVALID_ARGUMENT: this is not the form of a recovery code; ask the person to type it again.
	ReasonRecoveryCodeMalformed = "RECOVERY_CODE_MALFORMED"
	// INVALID_ARGUMENT: the address is not a plain `local@domain` one; correct it.
	ReasonEmailInvalid = "EMAIL_INVALID"
	// INVALID_ARGUMENT: the password is too short, too long or not text; choose another.
	ReasonPasswordUnacceptable = "PASSWORD_UNACCEPTABLE"

	// FAILED_PRECONDITION: an admin who requires a second factor of everybody needs one first; set it up.
	ReasonAdminNotEnrolled = "ADMIN_NOT_ENROLLED"
	// FAILED_PRECONDITION: the account requires a second factor and this is the agent's last; add another before removing it.
	ReasonLastFactorProtected = "LAST_FACTOR_PROTECTED"
	// FAILED_PRECONDITION: the account keeps at least one active owner; name another first.
	ReasonLastOwner = "LAST_OWNER"
	// FAILED_PRECONDITION: nobody resets their own second factor; ask another admin, or the operator.
	ReasonCannotResetSelf = "CANNOT_RESET_SELF"
	// FAILED_PRECONDITION: nobody changes their own role or deactivates themselves; ask another admin, or the operator.
	ReasonCannotChangeSelf = "CANNOT_CHANGE_SELF"
	// FAILED_PRECONDITION: the agent has accepted an invitation already, or may not; there is none to send again.
	ReasonAgentNotInvited = "AGENT_NOT_INVITED"
	// FAILED_PRECONDITION: the agent is deactivated and cannot sign in; reactivate them first.
	ReasonAgentDeactivated = "AGENT_DEACTIVATED"
	// FAILED_PRECONDITION: the agent signs in without a password of the account, so there is none to change; change it at the identity provider.
	ReasonPasswordNotSet = "PASSWORD_NOT_SET"
	// FAILED_PRECONDITION: the set-up is unknown, replaced or too old; begin it again.
	ReasonEnrollmentExpired = "ENROLLMENT_EXPIRED"
	// UNAUTHENTICATED: the code is wrong, or was used before (never said which); wait for the next one.
	ReasonCodeIncorrect = "CODE_INCORRECT"
	// FAILED_PRECONDITION: the agent has no second factor; set one up.
	ReasonFactorNotSetUp = "FACTOR_NOT_SET_UP"
	// FAILED_PRECONDITION: the notice is not in a state in which it can be sent again; read it for its state.
	ReasonNoticeNotResendable = "NOTICE_NOT_RESENDABLE"

	// ABORTED: the resource has changed since the etag was read; read it again and repeat the change.
	ReasonEtagMismatch = "ETAG_MISMATCH"
	// ABORTED: the decision was made on an older policy than the account has now; decide again.
	ReasonPolicyRevisionStale = "POLICY_REVISION_STALE"
	// ABORTED: the agent's credentials changed during the sign-in; begin the sign-in again.
	ReasonAgentVersionStale = "AGENT_VERSION_STALE"

	// RESOURCE_EXHAUSTED: too many failed attempts; wait for the delay in the details.
	ReasonTooManyAttempts = "TOO_MANY_ATTEMPTS"
	// RESOURCE_EXHAUSTED: the service has as much work as it takes at once; wait a moment and repeat.
	ReasonOverloaded = "OVERLOADED"
	// RESOURCE_EXHAUSTED: the message is larger than the service accepts; send less at once.
	ReasonMessageTooLarge = "MESSAGE_TOO_LARGE"

	// UNAVAILABLE: a store or service behind this one cannot be reached; repeat with growing pauses and the same request_id.
	ReasonDependencyUnavailable = "DEPENDENCY_UNAVAILABLE"
	// DEADLINE_EXCEEDED: the call did not finish within the caller's deadline and may still take effect; read before repeating.
	ReasonDeadlineExceeded = "DEADLINE_EXCEEDED"
	// CANCELED: the caller gave up, and the call may still take effect; read before repeating.
	ReasonCanceled = "CANCELED"
	// UNIMPLEMENTED: there is no such method or route here; check the name.
	ReasonMethodUnknown = "METHOD_UNKNOWN"
	// INTERNAL: a fault of the service; report the request id.
	ReasonInternal = "INTERNAL"
)
