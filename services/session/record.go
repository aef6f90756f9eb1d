package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// A session's key holds a record, or a tombstone that says why it is over:
//
//	S <agent version in decimal> ; <32 bytes hash> <the rest of the record>
//	T <cause, one digit> <32 bytes hash>
//
// Scripts read no further than the hash. A record of a million is 120 to 150
// bytes, which is why it is no protobuf message.
const (
	recordMark    = 'S'
	tombstoneMark = 'T'
	recordFormat  = 1
)

const (
	flagExempt = 1 << iota
	flagKeep
	flagAAL2
	flagFactor
	flagLowered
)

// record is a session as it is stored.
type record struct {
	ref          sessionRef
	agentVersion int64
	hash         [sha256.Size]byte
	aal2         bool
	exempt       bool
	keep         bool
	firstFactor  sessionv1.Session_FirstFactor
	role         sessionv1.Session_Role
	kind         sessionv1.Client_Kind
	userAgent    string // packed
	address      string
	create       time.Time
	expire       time.Time
	lastSeen     time.Time // to the second
	factorVerify time.Time // zero at AAL1
	lowered      time.Time // when it fell back from AAL2; zero for never
}

// tombstone is what stays of a session that was ended.
type tombstone struct {
	cause sessionv1.SessionsRevoked_Cause
	hash  [sha256.Size]byte
}

var errRecord = errors.New("session: a record in the store cannot be read")

func (r *record) encode() string {
	b := make([]byte, 0, 192)
	b = append(b, recordMark)
	b = strconv.AppendInt(b, r.agentVersion, 10)
	b = append(b, ';')
	b = append(b, r.hash[:]...)
	b = append(b, recordFormat, r.flags(), byte(r.firstFactor), byte(r.role), byte(r.kind)) //nolint:gosec // small enums
	b = append(b, r.ref.agent[:]...)
	b = appendText(b, r.ref.account)
	b = binary.AppendVarint(b, r.create.UnixMicro())
	b = binary.AppendVarint(b, r.expire.Sub(r.create).Milliseconds())
	b = binary.AppendVarint(b, int64(r.lastSeen.Sub(r.create)/time.Second))
	if !r.factorVerify.IsZero() {
		b = binary.AppendVarint(b, r.factorVerify.Sub(r.create).Microseconds())
	}
	b = appendText(b, r.userAgent)
	b = appendText(b, r.address)
	if !r.lowered.IsZero() {
		b = binary.AppendVarint(b, r.lowered.Sub(r.create).Microseconds())
	}
	return string(b)
}

func (r *record) flags() (flags byte) {
	set := func(flag byte, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagExempt, r.exempt)
	set(flagKeep, r.keep)
	set(flagAAL2, r.aal2)
	set(flagFactor, !r.factorVerify.IsZero())
	set(flagLowered, !r.lowered.IsZero())
	return flags
}

// decodeRecord reads what is under a session's key; one of the results is nil.
func decodeRecord(id uuid.UUID, value string) (*record, *tombstone, error) {
	if value == "" {
		return nil, nil, errRecord
	}
	if value[0] == tombstoneMark {
		if len(value) != 2+sha256.Size {
			return nil, nil, errRecord
		}
		t := &tombstone{cause: sessionv1.SessionsRevoked_Cause(value[1] - '0')}
		copy(t.hash[:], value[2:])
		return nil, t, nil
	}
	head := strings.IndexByte(value, ';')
	if value[0] != recordMark || head < 0 {
		return nil, nil, errRecord
	}
	version, err := strconv.ParseInt(value[1:head], 10, 64)
	if err != nil {
		return nil, nil, errRecord
	}
	d := decoder{rest: value[head+1:]}
	r := &record{agentVersion: version}
	r.ref.id = id
	copy(r.hash[:], d.bytes(sha256.Size))
	if d.byte() != recordFormat {
		return nil, nil, errRecord
	}
	flags := d.byte()
	r.exempt, r.keep, r.aal2 = flags&flagExempt != 0, flags&flagKeep != 0, flags&flagAAL2 != 0
	r.firstFactor = sessionv1.Session_FirstFactor(d.byte())
	r.role = sessionv1.Session_Role(d.byte())
	r.kind = sessionv1.Client_Kind(d.byte())
	copy(r.ref.agent[:], d.bytes(16))
	r.ref.account = d.text()
	r.create = time.UnixMicro(d.varint()).UTC()
	r.expire = r.create.Add(time.Duration(d.varint()) * time.Millisecond)
	r.lastSeen = r.create.Add(time.Duration(d.varint()) * time.Second)
	if flags&flagFactor != 0 {
		r.factorVerify = r.create.Add(time.Duration(d.varint()) * time.Microsecond)
	}
	r.userAgent = d.text()
	r.address = d.text()
	if flags&flagLowered != 0 {
		r.lowered = r.create.Add(time.Duration(d.varint()) * time.Microsecond)
	}
	if d.failed {
		return nil, nil, errRecord
	}
	return r, nil, nil
}

// end is when the session ends by itself.
func (r *record) end(c Config) time.Time {
	if idle := r.lastSeen.Add(c.IdleLimit); !r.keep && idle.Before(r.expire) {
		return idle
	}
	return r.expire
}

// ttl is how long the store keeps the record: until it has ended, and for as long
// as it should be able to say so. What decides is the record, never the TTL.
func (r *record) ttl(c Config, now time.Time) int64 {
	return max(r.end(c).Sub(now)+c.Retention, time.Second).Milliseconds()
}

// facts are what the rule wants to know.
func (r *record) facts() enforcement.Session {
	s := enforcement.Session{Exempt: r.exempt, AssuranceLevel: enforcement.AAL1, CreateTime: r.create}
	if r.aal2 {
		s.AssuranceLevel = enforcement.AAL2
	}
	return s
}

func (t tombstone) encode() string {
	return string([]byte{tombstoneMark, '0' + byte(t.cause)}) + string(t.hash[:]) //nolint:gosec // one digit
}

func appendText(b []byte, text string) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// decoder takes a value apart. After a failure it returns zeros.
type decoder struct {
	rest   string
	failed bool
}

func (d *decoder) bytes(n int) string {
	if n < 0 || len(d.rest) < n {
		d.failed, d.rest = true, ""
		return ""
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != "" {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	var value uint64
	for shift := 0; shift < 64; shift += 7 {
		b := d.byte()
		value |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return value
		}
	}
	d.failed = true
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	value := int64(u >> 1)
	if u&1 != 0 {
		value = ^value
	}
	return value
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.failed = true
		return ""
	}
	return d.bytes(int(n)) //nolint:gosec // at most len(rest)
}
