package smtppool

import (
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"unicode"
)

// Result is what became of a mail.
type Result int

const (
	// Sent: the server took responsibility for the mail.
	Sent Result = iota + 1
	// Retryable: the server certainly did not take it, and may another time.
	Retryable
	// Rejected: the server will not take this mail to this recipient.
	Rejected
	// Ambiguous: the connection was lost between the final dot and the answer.
	// The server may have taken the mail.
	Ambiguous
)

func (r Result) String() string {
	switch r {
	case Sent:
		return "sent"
	case Retryable:
		return "retryable"
	case Rejected:
		return "rejected"
	case Ambiguous:
		return "ambiguous"
	default:
		return fmt.Sprintf("result %d", int(r))
	}
}

// Stage is how far a delivery came.
type Stage string

// The stages, in order. The first ones belong to Acquire.
const (
	StageConnect   Stage = "connect"
	StageGreeting  Stage = "greeting"
	StageTLS       Stage = "tls"
	StageSignIn    Stage = "sign-in"
	StageCompose   Stage = "compose"
	StageSender    Stage = "sender"
	StageRecipient Stage = "recipient"
	StageBody      Stage = "body"
	StageAnswer    Stage = "answer"
)

// Outcome is what became of a mail, and why.
type Outcome struct {
	Result Result
	// Stage is where it ended.
	Stage Stage
	// Code is the server's answer, 0 when there was none.
	Code int
	// Reply is the server's own words on one line, for an administrator to read.
	Reply string
	// Err is nil when the mail was sent.
	Err error
}

// ConnectError says why there is no connection to the mail server. It never is
// the fault of a recipient, whatever the code: nobody's mail was tried.
type ConnectError struct {
	Stage Stage
	// Code is the server's answer, 0 when there was none.
	Code int
	Err  error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("mail server: %s: %v", e.Stage, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

func connectError(stage Stage, err error) *ConnectError {
	code, _ := answer(err)
	return &ConnectError{Stage: stage, Code: code, Err: err}
}

// failure makes the outcome of a delivery that ended with err before the server
// could have taken the mail, or with the server's answer to it.
func failure(stage Stage, err error) Outcome {
	code, words := answer(err)
	out := Outcome{Result: Retryable, Stage: stage, Code: code, Reply: words, Err: fmt.Errorf("%s: %w", stage, err)}
	if code >= 500 && code <= 599 && stage != StageSender && !aboutServer(code) {
		out.Result = Rejected
	}
	return out
}

// aboutServer tells the 5xx answers that speak of the connection and not of the
// mail: commands that are unknown or out of order (RFC 5321, section 4.2.2) and
// sign-in that is missing or failed (RFC 4954, section 6). The answer to MAIL is
// likewise about us, the sender, which is the same for every mail: if one such
// answer counted, a wrong setting would mark every agent as unreachable.
func aboutServer(code int) bool {
	switch code {
	case 500, 502, 503, 504, 530, 534, 535, 538:
		return true
	default:
		return false
	}
}

// answer takes the server's answer out of an error.
func answer(err error) (code int, words string) {
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		return 0, ""
	}
	return reply.Code, oneLine(reply.Msg)
}

// maxReply is how much of the server's words is kept.
const maxReply = 300

// oneLine makes a stranger's words safe to store and to show.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	runes := []rune(strings.Join(strings.Fields(s), " "))
	return string(runes[:min(len(runes), maxReply)])
}
