package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// errLinkExpired answers for a link that is unknown, over, used, replaced, void or
// for something else: never said which.
var errLinkExpired = errs.New(codes.Unauthenticated, errs.ReasonLinkExpired,
	"This link is no longer good. Ask for a new one.")

// linkPurpose is what a link is for, as it is stored.
type linkPurpose string

const (
	linkInvitation    linkPurpose = "INVITATION"
	linkPasswordReset linkPurpose = "PASSWORD_RESET"
)

// isOpenTo reports whether a link for this purpose can be of use to an agent. An
// agent whom only the identity provider vouches for gets no password by mail: it
// would be a way round it.
func (p linkPurpose) isOpenTo(a agent) bool {
	switch p {
	case linkInvitation:
		return a.state == stateInvited
	case linkPasswordReset:
		return a.state == stateActive && a.hasPassword
	}
	return false
}

// A link's token is its prefix and 256 bits.
const (
	linkTokenPrefix = "tfl1_"
	linkTokenBytes  = 32
)

const purposeLink keyring.Purpose = "one-time-link"

// linkToken derives the token of a link, of which issued is the hash if it was issued
// before. It is derived and not drawn so that a mail that is sent again, because
// nobody knows whether it arrived, holds the same link, also when another key has
// become primary meanwhile: mail servers drop the second of two mails with one
// Message-ID. Under a key that is in no database it can be foretold no better than
// random bits.
func (s *store) linkToken(a agent, purpose linkPurpose, eventID, issued string) (token, hash string, err error) {
	for i, mac := range s.keys.MACs(purposeLink, string(purpose), a.account, a.id, eventID) {
		derived := linkTokenPrefix + base64.RawURLEncoding.EncodeToString(mac[len(mac)-linkTokenBytes:])
		its, err := linkHash(derived)
		if err != nil {
			return "", "", err
		}
		if i == 0 || its == issued {
			token, hash = derived, its
		}
	}
	return token, hash, nil
}

// linkHash is what is stored of a token. What is no token is refused like a token
// that is over.
func linkHash(token string) (string, error) {
	encoded, ok := strings.CutPrefix(token, linkTokenPrefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(linkTokenBytes) {
		return "", errLinkExpired
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:]), nil
}

// promiseLinks notes that the mails of an event will carry links for agents. Earlier
// links for the same purpose are void from here on.
func promiseLinks(
	ctx context.Context, tx *sqldb.Tx, purpose linkPurpose, eventID string, now time.Time, agentIDs ...string,
) error {
	for chunk := range slices.Chunk(agentIDs, insertChunk) {
		var args []any
		for _, id := range chunk {
			args = append(args, id, string(purpose), eventID, "", sqldb.Micros(now), 0)
		}
		_, err := tx.Exec(ctx, `INSERT INTO links (agent_id, purpose, event_id, hash, create_time, expire_time)
			VALUES `+tuples(len(chunk), len(args)/len(chunk))+`
			ON CONFLICT (agent_id, purpose) DO UPDATE SET event_id = excluded.event_id, hash = '',
				create_time = excluded.create_time, expire_time = 0`, args...)
		if err != nil {
			return storeError("promise links", err)
		}
	}
	return nil
}

// voidLinks makes every link of an agent void, mailed already or not.
func voidLinks(ctx context.Context, tx *sqldb.Tx, agentID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM links WHERE agent_id = ?`, agentID)
	return storeError("void links", err)
}

// link is a link whose token was mailed.
type link struct {
	agentID    string
	purpose    linkPurpose
	expireTime time.Time
}

// selectLink returns the link of a token, or errLinkExpired.
func selectLink(ctx context.Context, q querier, hash string) (link, error) {
	var l link
	var expires int64
	err := q.QueryRow(ctx, `SELECT agent_id, purpose, expire_time FROM links WHERE hash = ? AND hash <> ''`, hash).
		Scan(&l.agentID, &l.purpose, &expires)
	if errors.Is(err, sqldb.ErrNoRows) {
		return link{}, errLinkExpired
	}
	l.expireTime = sqldb.FromMicros(expires)
	return l, storeError("read a link", err)
}

// lockLink locks the agent of a link and returns them, if the link is good for this
// purpose. Whoever changes either locks the agent first, so of many uses at once
// one finds it.
func lockLink(ctx context.Context, tx *sqldb.Tx, hash string, purpose linkPurpose) (agent, time.Time, error) {
	found, err := selectLink(ctx, tx, hash)
	if err != nil {
		return agent{}, time.Time{}, err
	}
	a, err := selectAgentByID(ctx, tx, found.agentID, tx.ForUpdate())
	if errors.Is(err, resource.ErrNotFound) {
		return agent{}, time.Time{}, errLinkExpired
	}
	if err != nil {
		return agent{}, time.Time{}, err
	}
	// Again, because somebody may have used it while we waited for the lock.
	l, err := selectLink(ctx, tx, hash)
	if err != nil {
		return agent{}, time.Time{}, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return agent{}, time.Time{}, err
	}
	if l.agentID != a.id || l.purpose != purpose || !now.Before(l.expireTime) || !purpose.isOpenTo(a) {
		return agent{}, time.Time{}, errLinkExpired
	}
	return a, now, nil
}

// IssueLink makes the token of a mail that is about to be sent. Its time begins
// now, however long the mail had to wait.
func (s *agentServer) IssueLink(ctx context.Context, req *authv1.IssueLinkRequest) (*authv1.IssueLinkResponse, error) {
	name, err := resource.ParseAgent("agent", req.GetAgent())
	if err != nil {
		return nil, err
	}
	purpose := linkPurpose(req.GetPurpose().String())
	resp := &authv1.IssueLinkResponse{}
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err := selectAgent(ctx, tx, name, tx.ForUpdate())
		if err != nil {
			return err
		}
		if !purpose.isOpenTo(a) {
			return resource.ErrNotFound
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		var issued string
		err = tx.QueryRow(ctx, `SELECT hash FROM links WHERE agent_id = ? AND purpose = ? AND event_id = ?`,
			a.id, string(purpose), req.GetEventId()).Scan(&issued)
		if errors.Is(err, sqldb.ErrNoRows) {
			return resource.ErrNotFound // used, void or replaced
		}
		if err != nil {
			return storeError("issue a link", err)
		}
		token, hash, err := s.store.linkToken(a, purpose, req.GetEventId(), issued)
		if err != nil {
			return err
		}
		expires := now.Add(s.linkLifetime(purpose))
		resp.Token, resp.ExpireTime = token, timestamppb.New(expires)
		_, err = tx.Exec(ctx, `UPDATE links SET hash = ?, expire_time = ? WHERE agent_id = ? AND purpose = ?`,
			hash, sqldb.Micros(expires), a.id, string(purpose))
		return storeError("issue a link", err)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Service) linkLifetime(purpose linkPurpose) time.Duration {
	if purpose == linkInvitation {
		return s.cfg.InvitationLifetime
	}
	return s.cfg.PasswordResetLifetime
}
