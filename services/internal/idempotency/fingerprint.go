package idempotency

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Fingerprint stands for the content of a request.
type Fingerprint struct {
	// Sum is stored beside the request id.
	Sum []byte
	// Matches says whether a stored Sum is of the same content. Nil compares
	// bytes; a keyed fingerprint brings its own, so that a change of the primary
	// key does not make a repeated request look like another.
	Matches func(stored []byte) bool
}

// OfMessage returns the fingerprint of a request without secrets: the SHA-256 of
// its deterministic encoding. That encoding may differ between two builds of the
// program; a request that is repeated across an upgrade may thus be refused as a
// reuse, but is never taken for another.
func OfMessage(request proto.Message) (Fingerprint, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("idempotency: encode the request: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return Fingerprint{Sum: sum[:]}, nil
}

func (f Fingerprint) matches(stored []byte) bool {
	if f.Matches != nil {
		return f.Matches(stored)
	}
	return bytes.Equal(f.Sum, stored)
}
