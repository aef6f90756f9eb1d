package notifier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

// patience is how often and how long delivery is tried.
type patience struct {
	// min and max bound the growing pause between attempts at one notice.
	min, max time.Duration
	// giveUpAfter is how long after its first failed attempt a notice is given up.
	giveUpAfter time.Duration
}

// after is what becomes of a notice after an attempt. claimed is the time by the
// SQL clock when the notice's turn came.
func (p patience) after(n notice, out smtppool.Outcome, claimed time.Time) settlement {
	words := explain(out)
	switch out.Result {
	case smtppool.Sent:
		return settlement{state: stateSent, told: true}
	case smtppool.Rejected:
		return settlement{state: stateFailed, failed: true, lastError: words}
	case smtppool.Ambiguous:
		o := settlement{state: stateRetrying, failed: true, ambiguous: true, lastError: words, retryIn: p.pause(n.failedAttempts)}
		if n.ambiguousAttempts > 0 {
			o.state = stateUnknown
		}
		return o
	default:
		o := settlement{state: stateRetrying, failed: true, lastError: words, retryIn: p.pause(n.failedAttempts)}
		if first := n.firstFailureTime; !first.IsZero() && claimed.Sub(first) >= p.giveUpAfter {
			o.state, o.lastError = stateFailed, clip("Given up after many attempts. "+words)
			if n.ambiguousAttempts > 0 {
				o.state = stateUnknown // one of them may have arrived
			}
		}
		return o
	}
}

// pause is how long to wait after a number of earlier failures: growing, and
// random within its upper half, so that what failed together does not come back
// together.
func (p patience) pause(failures int) time.Duration {
	return jitter(min(p.min<<min(failures, 20), p.max))
}

func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter is no secret
}

// isAboutServer says whether an outcome speaks of us and the mail server, and not
// of this mail: it would be the same for every other.
func isAboutServer(out smtppool.Outcome) bool {
	return out.Result == smtppool.Retryable && (out.Stage == smtppool.StageSender || out.Code == 421)
}

// explain says for an admin what an attempt met. It repeats the mail server's own
// words about the mail, and nothing of how we reach that server.
func explain(out smtppool.Outcome) string {
	said := strings.TrimSpace(fmt.Sprintf("%d %s", out.Code, out.Reply))
	switch {
	case out.Result == smtppool.Sent:
		return ""
	case out.Result == smtppool.Ambiguous:
		return "The connection was lost before the mail server answered; it may have taken the mail."
	case out.Stage == smtppool.StageCompose && out.Result == smtppool.Rejected:
		return "The mail could not be written to this address."
	case out.Code == 0:
		return "The connection was lost before the mail server took the mail."
	case out.Result == smtppool.Rejected && out.Stage == smtppool.StageRecipient:
		return clip("The mail server refused the address: " + said)
	case out.Result == smtppool.Rejected:
		return clip("The mail server refused the mail: " + said)
	default:
		return clip("The mail server put the mail off: " + said)
	}
}

// explainConnect says for an admin why there is no connection.
func explainConnect(err error) string {
	var failed *smtppool.ConnectError
	if !errors.As(err, &failed) {
		return "There is no connection to the mail server."
	}
	code := ""
	if failed.Code != 0 {
		code = fmt.Sprintf(" (%d)", failed.Code)
	}
	switch failed.Stage {
	case smtppool.StageGreeting:
		return "The mail server takes no mails now" + code + "."
	case smtppool.StageTLS:
		return "The connection to the mail server cannot be encrypted" + code + "."
	case smtppool.StageSignIn:
		return "The mail server refused our sign-in" + code + "."
	default:
		return "The mail server cannot be reached."
	}
}

// maxError is how long an explanation may be.
const maxError = 400

func clip(s string) string {
	runes := []rune(strings.Join(strings.Fields(s), " "))
	return string(runes[:min(len(runes), maxError)])
}
