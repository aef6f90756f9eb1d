package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	// resetInterval is how often requests for new passwords are looked at. They are
	// not looked at when they come: what happens right after an answer could be felt
	// by the next request.
	resetInterval = 500 * time.Millisecond
	// resetBatch keeps a transaction short that drops requests for nobody.
	resetBatch = 200
	// maxResetMails in resetWindow is what one agent is sent, so that nobody fills
	// somebody's mailbox. Requests beyond are dropped without a word.
	maxResetMails = 3
	resetWindow   = time.Hour
)

// RequestPasswordReset takes a request down. Whether anybody has the address is
// found out afterwards, by other work than this call: so the call writes the same
// row, answers the same and takes as long for everybody (ASVS 6.3.8).
func (s *signInServer) RequestPasswordReset(
	ctx context.Context, req *authv1.RequestPasswordResetRequest,
) (*authv1.RequestPasswordResetResponse, error) {
	account, key := "", "" // nobody's
	if parsed, err := address.Parse(req.GetEmail()); err == nil && resource.IsAccountID(req.GetAccount()) {
		account, key = req.GetAccount(), parsed.Key()
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	_, err = s.store.db.Exec(ctx, `INSERT INTO reset_requests (id, account, email_key, create_time)
		VALUES (?, ?, ?, `+s.store.db.NowExpr()+`)`, id.String(), account, key)
	if err != nil {
		return nil, unavailableUnless(ctx, storeError("take a request for a new password", err))
	}
	return &authv1.RequestPasswordResetResponse{}, nil
}

// answerResets turns requests for new passwords into events until ctx ends. It
// returns nil then; what fails meanwhile is logged and tried again.
func (s *Service) answerResets(ctx context.Context) error {
	ticker := time.NewTicker(resetInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		promised, err := s.store.answerAll(ctx)
		if promised > 0 {
			s.relay.Wake()
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "Requests for new passwords wait", slog.Any("error", err))
		}
	}
}

// answerAll looks at every request there is, and says how many mails it promised.
func (s *store) answerAll(ctx context.Context) (promised int, err error) {
	for ctx.Err() == nil {
		dropped, err := s.dropForNobody(ctx)
		if err != nil {
			return promised, err
		}
		found, mail, err := s.answerOne(ctx)
		if err != nil {
			return promised, err
		}
		if mail {
			promised++
		}
		if !found && dropped < resetBatch {
			break
		}
	}
	return promised, nil
}

// dropForNobody drops some requests for addresses that nobody has, many at a time:
// anybody can send them.
func (s *store) dropForNobody(ctx context.Context) (dropped int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `DELETE FROM reset_requests WHERE id IN (
			SELECT r.id FROM reset_requests r WHERE NOT EXISTS (
				SELECT 1 FROM agents a WHERE a.account = r.account AND a.email_key = r.email_key)
			ORDER BY r.id LIMIT ?`+tx.SkipLocked()+`)`, resetBatch)
		if err != nil {
			return err
		}
		dropped, err = res.RowsAffected()
		return err
	})
	return dropped, storeError("drop requests for new passwords", err)
}

// answerOne takes the oldest request, with all others for the same agent, and
// promises the mail if there is to be one.
func (s *store) answerOne(ctx context.Context) (found, mail bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, mail = false, false
		var account, key string
		err := tx.QueryRow(ctx, `SELECT account, email_key FROM reset_requests ORDER BY id LIMIT 1`+tx.SkipLocked()).
			Scan(&account, &key)
		if errors.Is(err, sqldb.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		a, err := selectAgentByEmail(ctx, tx, account, key, tx.ForUpdate())
		known := !errors.Is(err, resource.ErrNotFound)
		if err != nil && known {
			return err
		}
		// Those that another copy is just looking at are left to it.
		if _, err := tx.Exec(ctx, `DELETE FROM reset_requests WHERE id IN (SELECT id FROM reset_requests
			WHERE account = ? AND email_key = ?`+tx.SkipLocked()+`)`, account, key); err != nil {
			return err
		}
		if !known || !linkPasswordReset.isOpenTo(a) {
			return nil
		}
		mail, err = promiseReset(ctx, tx, a)
		return err
	})
	return found, mail, storeError("answer a request for a new password", err)
}

// promiseReset promises an agent the mail with the link, unless there were too many
// of late.
func promiseReset(ctx context.Context, tx *sqldb.Tx, a agent) (promised bool, err error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return false, err
	}
	var mails int
	begin := sqldb.Micros(now.Add(-resetWindow))
	err = tx.QueryRow(ctx, `INSERT INTO reset_mails (agent_id, mails, window_time) VALUES (?, 1, ?)
		ON CONFLICT (agent_id) DO UPDATE SET
			mails = CASE WHEN reset_mails.window_time <= ? THEN 1 ELSE reset_mails.mails + 1 END,
			window_time = CASE WHEN reset_mails.window_time <= ? THEN excluded.window_time ELSE reset_mails.window_time END
		RETURNING mails`, a.id, sqldb.Micros(now), begin, begin).Scan(&mails)
	if err != nil || mails > maxResetMails {
		return false, err
	}
	event, err := agentEvent(a, now, &authv1.PasswordResetRequested{
		Agent: a.name().String(), AgentVersion: a.version, RequestTime: timestamp(now),
	})
	if err != nil {
		return false, err
	}
	if err := promiseLinks(ctx, tx, linkPasswordReset, event.ID, now, a.id); err != nil {
		return false, err
	}
	return true, outbox.Append(ctx, tx, event)
}

// maskAddress shows enough of an address to recognize one's own: its first
// character, and the last label of the domain.
func maskAddress(email string) string {
	local, domain, _ := strings.Cut(email, "@")
	host, tld := domain, ""
	if dot := strings.LastIndex(domain, "."); dot >= 0 {
		host, tld = domain[:dot], domain[dot:]
	}
	return firstOf(local) + "***@" + firstOf(host) + "***" + tld
}

func firstOf(text string) string { return text[:min(1, len(text))] }
