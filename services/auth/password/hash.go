package password

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// Parameters of new hashes.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltSize  = 16
	sumSize   = 32
)

// Ceilings for imported hashes. They admit the defaults of the frameworks
// people come from (Django's 100 MiB are the largest) and no hash that takes
// much longer than a second.
const (
	maxMemoryKiB = 128 * 1024
	maxPasses    = 10
	maxLanes     = 16
	// maxWork bounds memory times passes, which is what time goes with.
	maxWork       = 512 * 1024
	maxBcryptCost = 14

	// bcrypt looks at no more than this many bytes of a password.
	bcryptLimit = 72
)

// hash is a parsed password hash.
type hash interface {
	// matches does the work. It takes the same time for every password.
	matches(password string) bool
	// current reports whether new hashes are made just so.
	current() bool
	// memory is what matches needs, in KiB.
	memory() int64
	String() string
}

// ParseHash checks a hash for import and returns its canonical form. Accepted
// are bcrypt ($2a$, $2b$, $2y$; cost 4 to 14) and Argon2id version 19 as a PHC
// string ($argon2id$v=19$m=…,t=…,p=…$salt$hash; m up to 128 MiB, t up to 10, p up
// to 16, m times t up to 512 MiB). The error is INVALID_ARGUMENT with reason
// INVALID_FIELD.
func ParseHash(text string) (string, error) {
	h, err := parse(text)
	if err != nil {
		return "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
			"The password hash is neither bcrypt nor Argon2id, is damaged, or costs too much to check.").WithCause(err)
	}
	return h.String(), nil
}

var (
	bcryptForm = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)
	argonForm  = regexp.MustCompile(
		`^\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})\$([A-Za-z0-9+/]{1,128})\$([A-Za-z0-9+/]{1,128})$`)
)

// parse never quotes text in its errors: a hash is nearly a secret.
func parse(text string) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon(text)
	case strings.HasPrefix(text, "$2"):
		return parseBcrypt(text)
	default:
		return nil, errors.New("password: hash of an unknown kind")
	}
}

// argonHash is Argon2id, version 19.
type argonHash struct {
	memoryKiB, passes uint32
	lanes             uint8
	salt, sum         []byte
}

func parseArgon(text string) (hash, error) {
	m := argonForm.FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New("password: not a PHC string of Argon2id version 19")
	}
	memory, err1 := strconv.ParseUint(m[1], 10, 32)
	times, err2 := strconv.ParseUint(m[2], 10, 32)
	threads, err3 := strconv.ParseUint(m[3], 10, 32)
	salt, err4 := base64.RawStdEncoding.Strict().DecodeString(m[4])
	sum, err5 := base64.RawStdEncoding.Strict().DecodeString(m[5])
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, errors.New("password: number or base64 of the Argon2id hash cannot be read")
	}
	switch {
	case memory > maxMemoryKiB, times > maxPasses, threads > maxLanes, memory*times > maxWork:
		return nil, errors.New("password: the Argon2id hash costs too much to check")
	case memory < 8*threads: // RFC 9106, section 3.1; the library would use more memory than the hash says
		return nil, errors.New("password: the Argon2id hash has too little memory for its lanes")
	case len(salt) < 8, len(salt) > 64, len(sum) < 16, len(sum) > 64:
		return nil, errors.New("password: salt or sum of the Argon2id hash is too short or too long")
	}
	// All three are under the ceilings checked above.
	return argonHash{memoryKiB: uint32(memory), passes: uint32(times), lanes: uint8(threads), salt: salt, sum: sum}, nil
}

// compute fills in the sum.
func (a argonHash) compute(password string, size int) argonHash {
	//nolint:gosec // sums have 16 to 64 bytes
	a.sum = argon2.IDKey([]byte(password), a.salt, a.passes, a.memoryKiB, a.lanes, uint32(size))
	return a
}

func (a argonHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(a.sum, a.compute(password, len(a.sum)).sum) == 1
}

func (a argonHash) current() bool {
	return a.memoryKiB == memoryKiB && a.passes == passes && a.lanes == lanes &&
		len(a.salt) >= saltSize && len(a.sum) == sumSize
}

func (a argonHash) memory() int64 { return int64(a.memoryKiB) }

func (a argonHash) String() string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", a.memoryKiB, a.passes, a.lanes,
		base64.RawStdEncoding.EncodeToString(a.salt), base64.RawStdEncoding.EncodeToString(a.sum))
}

// bcryptHash is bcrypt as it came.
type bcryptHash string

func parseBcrypt(text string) (hash, error) {
	m := bcryptForm.FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New("password: not a bcrypt hash of kind 2a, 2b or 2y")
	}
	cost, err := strconv.Atoi(m[1])
	if err != nil || cost < bcrypt.MinCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("password: the cost of the bcrypt hash is not %d to %d", bcrypt.MinCost, maxBcryptCost)
	}
	return bcryptHash(text), nil
}

// matches refuses what bcrypt cannot tell apart: everything after 72 bytes, and
// what follows a NUL (for bcrypt "abc" and "abc\x00abc" are one). Somebody whose
// imported password is longer resets it; letting people in on a part of a
// password, and then storing whatever they typed behind it, would be worse.
func (b bcryptHash) matches(password string) bool {
	whole := len(password) <= bcryptLimit && !strings.Contains(password, "\x00")
	same := bcrypt.CompareHashAndPassword([]byte(b), []byte(password)) == nil
	return same && whole
}

func (b bcryptHash) current() bool  { return false }
func (b bcryptHash) memory() int64  { return 4 }
func (b bcryptHash) String() string { return string(b) }
