package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A token is tokenPrefix and, in base64url: a version byte, the bucket, the agent,
// the session, 32 random bytes, the account. The prefix tells it from a sign-in
// token, which is never a session.
const (
	tokenPrefix  = "tfs1_"
	tokenVersion = 1
	secretSize   = 32
	tokenHead    = 1 + 1 + 16 + 16 + secretSize
)

// token is what a client holds.
type token struct {
	sessionRef
	secret [secretSize]byte
}

// newToken makes a token for a new session of the agent.
func newToken(agent agentRef, now time.Time) token {
	t := token{sessionRef: sessionRef{agentRef: agent, id: newID(now)}}
	_, _ = rand.Read(t.secret[:]) // crypto/rand ends the process rather than fail
	return t
}

// newID is a UUIDv7 of the given time (RFC 9562, section 5.7): the time is how a
// session is told from one made before its store was lost.
func newID(now time.Time) uuid.UUID {
	var id uuid.UUID
	_, _ = rand.Read(id[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// idTime is when newID was called, to the millisecond.
func idTime(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))) //nolint:gosec // 48 bits
}

// hash is what the store keeps of the secret. The secret has 256 random bits, so a
// plain hash of it cannot be searched.
func (t token) hash() [sha256.Size]byte { return sha256.Sum256(t.secret[:]) }

func (t token) encode() string {
	b := make([]byte, 0, tokenHead+len(t.account))
	b = append(b, tokenVersion, byte(t.bucket())) //nolint:gosec // below 64
	b = append(b, t.agent[:]...)
	b = append(b, t.id[:]...)
	b = append(b, t.secret[:]...)
	b = append(b, t.account...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// parseToken reads a token. What it says is proven only by the hash of its secret.
func parseToken(text string) (token, bool) {
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || strings.ContainsAny(body, "\r\n") { // the decoder would skip line breaks
		return token{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) <= tokenHead || b[0] != tokenVersion {
		return token{}, false
	}
	t := token{}
	t.account = string(b[tokenHead:])
	if !validAccount(t.account) {
		return token{}, false
	}
	copy(t.agent[:], b[2:18])
	copy(t.id[:], b[18:34])
	copy(t.secret[:], b[34:tokenHead])
	return t, int(b[1]) == t.bucket()
}
