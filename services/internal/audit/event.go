package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// The results, as they are stored and hashed.
const (
	resultOK     = "OK"
	resultDenied = "DENIED"
)

// event is an event as it is stored.
type event struct {
	account                           string
	sequence                          int64
	previous, hash                    []byte
	at                                time.Time
	actorKind, actorName, actorCalled string
	action, subject                   string
	result, reason                    string
	address, requestID                string
	details                           map[string]string
}

// noHash comes before the first event of a chain.
func noHash() []byte { return make([]byte, sha256.Size) }

// encoding names how an event is hashed, and is hashed with it: another way would
// have another name.
const encoding = "twofold-audit-v1"

// sum is the hash the event must have. Each word is written after its length, so
// that no two events are written alike.
func (e *event) sum(service string) []byte {
	words := []string{
		encoding, service, e.account, strconv.FormatInt(e.sequence, 10), hex.EncodeToString(e.previous),
		strconv.FormatInt(sqldb.Micros(e.at), 10), e.actorKind, e.actorName, e.actorCalled, e.action, e.subject,
		e.result, e.reason, e.address, e.requestID, strconv.Itoa(len(e.details)),
	}
	for _, key := range slices.Sorted(maps.Keys(e.details)) {
		words = append(words, key, e.details[key])
	}
	h := sha256.New()
	for _, word := range words {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(word))) //nolint:gosec // words are bounded by Append
		h.Write(length[:])
		h.Write([]byte(word))
	}
	return h.Sum(nil)
}

// name is the event's resource name.
func name(account, service string, sequence int64) string {
	return fmt.Sprintf("accounts/%s/auditEvents/%s-%d", account, service, sequence)
}

func (e *event) toProto(service string) *auditv1.AuditEvent {
	return &auditv1.AuditEvent{
		Name:      name(e.account, service, e.sequence),
		EventTime: timestamppb.New(e.at),
		Actor: &eventv1.Actor{
			Kind: eventv1.Actor_Kind(eventv1.Actor_Kind_value[e.actorKind]), Name: e.actorName, DisplayName: e.actorCalled,
		},
		Action: e.action, Subject: e.subject,
		Result:      auditv1.AuditEvent_Result(auditv1.AuditEvent_Result_value[e.result]),
		ErrorReason: e.reason, ClientAddress: e.address, RequestId: e.requestID, Details: e.details,
		Service: service, Sequence: e.sequence,
		PreviousHash: hex.EncodeToString(e.previous), Hash: hex.EncodeToString(e.hash),
	}
}
