package mailsink_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/smtp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

func send(s *mailsink.Server, to string) error {
	return smtp.SendMail(s.Addr(), nil, "from@acme.example", []string{to}, []byte("Subject: hello\r\n\r\n"+
		"A body that is long enough for a cut in its middle to come before its end.\r\n.dot\r\n"))
}

func TestServer_keepsMailsAsTheyCame(t *testing.T) {
	s := mailsink.Start(t, mailsink.Options{})
	require.NoError(t, send(s, "ada@acme.example"))
	require.NoError(t, send(s, "Bob@acme.example"))
	all, err := s.WaitFor(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, "from@acme.example", all[0].From)
	require.Equal(t, []string{"ada@acme.example"}, all[0].To)
	require.Contains(t, string(all[0].Raw), "\r\n.dot\r\n", "dots are unstuffed")
	require.Len(t, s.To("bob@acme.example"), 1)
	require.Equal(t, 2, s.Connections())

	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/?to=ada@acme.example", nil))
	var list []mailsink.Message
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
	require.Equal(t, s.To("ada@acme.example"), list)

	s.Reset()
	require.Empty(t, s.Messages())
}

func TestServer_scriptsRunInOrderAndPerRecipient(t *testing.T) {
	s := mailsink.Start(t, mailsink.Options{})
	s.Script("ada@acme.example", mailsink.Refuse(mailsink.AtRcpt, 450), mailsink.Cut(mailsink.AtData), mailsink.Cut(mailsink.AfterStore))
	require.ErrorContains(t, send(s, "ada@acme.example"), "450")
	require.NoError(t, send(s, "bob@acme.example"), "another recipient")
	require.Error(t, send(s, "ada@acme.example"))
	require.Empty(t, s.To("ada@acme.example"))
	require.Error(t, send(s, "ada@acme.example"))
	require.Len(t, s.To("ada@acme.example"), 1, "stored, and nobody was told")
	require.NoError(t, send(s, "ada@acme.example"), "the script is used up")

	s.RefuseConnections(554)
	require.ErrorContains(t, send(s, "ada@acme.example"), "554")
}

func TestServer_waitForEnds(t *testing.T) {
	s := mailsink.Start(t, mailsink.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.WaitFor(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s.Close()
	s.Close()
	_, err = s.WaitFor(t.Context(), 1)
	require.ErrorContains(t, err, "closed")
}
