package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/twofold-auth/twofold/services/e2e/story"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

// operatorToken is the platform team's in every suite of these tests.
const operatorToken = "operator-token-of-the-tests"

// builder builds the programs once for all tests.
type builder struct {
	once sync.Once
	dir  string
	err  error
}

var programs builder //nolint:gochecknoglobals // of the test binary, which has one

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// binary returns the path of a program of the suite, such as `allinone` or
// `policy`, built as it is shipped: without the race detector.
func binary(t *testing.T, name string) string {
	t.Helper()
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "twofold-e2e-"); programs.err != nil { //nolint:usetesting // outlives the test that builds
			return
		}
		packages := []string{"build", "-ldflags=-s -w", "-o", programs.dir}
		for _, p := range []string{"allinone", "policy", "auth", "session", "notifier", "gateway"} {
			packages = append(packages, "github.com/twofold-auth/twofold/services/"+p+"/cmd/"+p)
		}
		output, err := exec.Command("go", packages...).CombinedOutput()
		if err != nil {
			programs.err = fmt.Errorf("go build: %w\n%s", err, output)
		}
	})
	require.NoError(t, programs.err)
	return filepath.Join(programs.dir, name)
}

// running is a suite under test.
type running struct {
	baseURL string
	connect story.Connect
	mail    story.MailReader
}

// play plays the story through both doors, side by side.
func (r running) play(t *testing.T, grace time.Duration) {
	t.Helper()
	for door, connect := range map[string]story.Connect{"REST": nil, "gRPC": r.connect} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			var told bytes.Buffer
			err := story.Play(t.Context(), story.Options{
				BaseURL: r.baseURL, Connect: connect, OperatorToken: operatorToken,
				Mail: r.mail, Grace: grace, Out: &told, Now: time.Now,
			})
			if err != nil {
				t.Logf("the story so far:\n%s", told.String())
			}
			require.NoError(t, err)
		})
	}
}

// awaitReady waits until every part of a suite can do its work.
func awaitReady(t *testing.T, baseURL string) {
	t.Helper()
	var last string
	require.Eventuallyf(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, baseURL+"/readyz", nil)
		require.NoError(t, err)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			last = err.Error()
			return false
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		last = string(body)
		return response.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond, "the suite at %s is not ready: %s", baseURL, &last)
}

// dial connects to a gRPC server: with an identity to the holder of another, or,
// without one, in the clear.
func dial(t *testing.T, addr string, from mtls.Source, to string) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if from != nil {
		transport = credentials.NewTLS(mtls.ClientConfig(from, to))
	}
	// Servers are killed and come back: look for them often.
	quick := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(transport), grpc.WithConnectParams(quick))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// bearer adds a token to a call.
func bearer(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// mailsTo reads what a mail server of the tests took.
func mailsTo(sink *mailsink.Server) story.MailReader {
	return func(_ context.Context, address string) (mails []story.Mail, err error) {
		for _, m := range sink.To(address) {
			mail, err := readMail(m.Raw)
			if err != nil {
				return nil, err
			}
			mail.To, mail.Time = address, m.Time
			mails = append(mails, mail)
		}
		return mails, nil
	}
}

// readMail reads a mail of two parts: text, then HTML.
func readMail(raw []byte) (story.Mail, error) {
	message, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return story.Mail{}, err
	}
	subject, err := (&mime.WordDecoder{}).DecodeHeader(message.Header.Get("Subject"))
	if err != nil {
		return story.Mail{}, err
	}
	mail := story.Mail{
		ID: message.Header.Get("Message-Id"), Subject: subject,
		Kind: message.Header.Get("Twofold-Notice"), EventID: message.Header.Get("Twofold-Event-Id"),
	}
	_, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		return story.Mail{}, err
	}
	part, err := multipart.NewReader(message.Body, parameters["boundary"]).NextPart()
	if err != nil {
		return story.Mail{}, err
	}
	if !strings.HasPrefix(part.Header.Get("Content-Type"), "text/plain") {
		return story.Mail{}, fmt.Errorf("the first part is %s", part.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(part)
	mail.Text = string(text)
	return mail, err
}
