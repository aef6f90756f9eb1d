package story

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Mail is a mail that arrived.
type Mail struct {
	ID      string
	To      string
	Subject string
	Time    time.Time
	Kind    string // the Twofold-Notice header
	EventID string
	Text    string
}

// MailReader returns the mails that arrived for an address, oldest first.
type MailReader func(ctx context.Context, address string) ([]Mail, error)

// Inbox reads the inbox of an all-in-one.
func Inbox(baseURL string) MailReader {
	client := &http.Client{Timeout: callTimeout}
	return func(ctx context.Context, address string) ([]Mail, error) {
		target := strings.TrimSuffix(baseURL, "/") + "/inbox/messages?" + url.Values{"to": {address}}.Encode()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return nil, fmt.Errorf("inbox: %w", err)
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("inbox: %w", err)
		}
		defer response.Body.Close() //nolint:errcheck // only read
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("inbox: HTTP status %d", response.StatusCode)
		}
		var list struct{ Messages []Mail }
		if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
			return nil, fmt.Errorf("inbox: %w", err)
		}
		slices.Reverse(list.Messages) // newest first there
		return list.Messages, nil
	}
}
