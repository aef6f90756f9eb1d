package audit

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// A page token holds a place and a sum over it and the query. The sum finds tokens
// that are damaged or of another query. It needs no key: whoever makes a token up
// reads on from another place of a log they may read all of.
const (
	tokenVersion = 1
	tokenNumbers = 17 // version, time, sequence
	tokenSum     = 12
)

func encode(p place, parent, filter string) string {
	b := []byte{tokenVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(p.at.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(p.sequence)) //nolint:gosec // read back the same way
	b = append(b, p.service...)
	return base64.RawURLEncoding.EncodeToString(append(b, sum(b, parent, filter)...))
}

func (s *Server) decode(token, parent, filter string) (*place, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < tokenNumbers+tokenSum || strings.ContainsAny(token, "\r\n") {
		return nil, errToken
	}
	b, got := b[:len(b)-tokenSum], b[len(b)-tokenSum:]
	p := &place{
		at:       time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:]))).UTC(), //nolint:gosec // written the same way
		sequence: int64(binary.BigEndian.Uint64(b[9:])),                       //nolint:gosec // written the same way
		service:  string(b[tokenNumbers:]),
	}
	if subtle.ConstantTimeCompare(got, sum(b, parent, filter)) != 1 || b[0] != tokenVersion ||
		p.sequence < 0 || !slices.Contains(s.services, p.service) {
		return nil, errToken
	}
	return p, nil
}

func sum(b []byte, parent, filter string) []byte {
	h := sha256.New()
	for _, word := range [][]byte{b, []byte(parent), []byte(filter)} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(word))))
		h.Write(word)
	}
	return h.Sum(nil)[:tokenSum]
}

var errToken = errs.New(codes.InvalidArgument, errs.ReasonInvalidPageToken,
	"This page token does not belong to this query. Start again at the first page.").WithField("page_token")
