package pagetoken

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
)

const (
	// MaxCursorSize bounds a cursor in its JSON form. Sort keys and an id fit
	// several times over.
	MaxCursorSize = 2048
	// MaxTokenSize bounds what is decoded at all. A token of the largest cursor
	// is shorter than this, and fits in a URL.
	MaxTokenSize = 4096

	// field is the name every list request gives its token.
	field = "page_token"

	purpose keyring.Purpose = "page-token"
)

// Query is what a token is bound to. Fill in everything that decides which
// resources are listed and in which order, as the request had it.
type Query struct {
	// Method is the full name of the RPC, so that tokens of two lists with the
	// same parent differ.
	Method string
	// Parent is the name of the resource whose children are listed.
	Parent string
	// Filter, OrderBy and Text are the request's filter, order_by and query.
	Filter, OrderBy, Text string
}

// Codec makes and reads tokens. It is safe for concurrent use.
type Codec struct {
	keys *keyring.Keyring
}

// New returns a codec. Copies of a service that share their keys read each
// other's tokens.
func New(keys *keyring.Keyring) *Codec {
	return &Codec{keys: keys}
}

// Encode returns the token with which q goes on after cursor. The cursor goes
// through encoding/json; an error means that it does not fit through, which is
// a fault of the program and not of the caller.
func (c *Codec) Encode(q Query, cursor any) (string, error) {
	plain, err := json.Marshal(cursor)
	if err != nil {
		return "", fmt.Errorf("page token: cursor: %w", err)
	}
	if len(plain) > MaxCursorSize {
		return "", fmt.Errorf("page token: the cursor has %d bytes, want at most %d", len(plain), MaxCursorSize)
	}
	return base64.RawURLEncoding.EncodeToString(c.keys.Seal(purpose, plain, q.words()...)), nil
}

// Decode reads a token made for q into cursor, which is a pointer. Any other
// token, of another query, damaged, or made under keys that are gone, is
// INVALID_ARGUMENT with reason INVALID_PAGE_TOKEN. So is an empty one: it stands
// for the first page, which callers settle before they decode.
func (c *Codec) Decode(token string, q Query, cursor any) error {
	if len(token) > MaxTokenSize {
		return invalid(errors.New("too long"))
	}
	// The decoder skips line breaks, and one token should have one spelling.
	if strings.ContainsAny(token, "\r\n") {
		return invalid(errors.New("line break"))
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return invalid(err)
	}
	plain, err := c.keys.Open(purpose, sealed, q.words()...)
	if err != nil {
		return invalid(err)
	}
	// Sealed by us, but perhaps by an older version with another cursor: then
	// listing starts again, which beats going on from half a place.
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	if err := dec.Decode(cursor); err != nil {
		return invalid(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid(errors.New("more than one cursor"))
	}
	return nil
}

func (q Query) words() []string {
	return []string{q.Method, q.Parent, q.Filter, q.OrderBy, q.Text}
}

func invalid(cause error) error {
	return errs.New(codes.InvalidArgument, errs.ReasonInvalidPageToken,
		"This page token does not belong to this query. Start again at the first page.").
		WithField(field).WithCause(cause)
}
