package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
	"github.com/twofold-auth/twofold/services/internal/testkit/otlpsink"
)

const canaryAccount = "canary-account"

// nest is a suite whose every output is searched for what people and operators
// keep secret.
type nest struct {
	*processes
	*canaries
	t         *testing.T
	collector *otlpsink.Sink
	metrics   map[string]string // addresses
	database  string
	redis     *testkit.RedisServer
	nats      *testkit.NATSServer
}

func startNest(t *testing.T) *nest {
	t.Helper()
	n := &nest{
		canaries: newCanaries(), t: t, collector: otlpsink.Start(t), metrics: map[string]string{},
		database: testkit.Postgres(t), redis: testkit.Redis(t), nats: testkit.NATS(t),
	}
	relayPassword := n.add("password of the mail server", "canary-relay-password")
	sink := mailsink.Start(t, mailsink.Options{User: "relay", Password: relayPassword})
	n.processes = startProcesses(t, func(name string) []string {
		n.metrics[name] = freeAddr(t)
		return []string{
			"TWOFOLD_LOG_LEVEL=debug", "TWOFOLD_LOG_FORMAT=json", "TWOFOLD_METRICS_ADDR=" + n.metrics[name],
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + n.collector.URL(), "OTEL_BSP_SCHEDULE_DELAY=200",
			"TWOFOLD_DATABASE_URL=" + n.database, "TWOFOLD_REDIS_URL=" + n.redis.URL(),
			"TWOFOLD_NATS_URL=" + n.nats.URL(), "TWOFOLD_SMTP_URL=" + sink.URL(),
		}
	})
	n.mail, n.sink = mailsTo(sink), sink
	n.add("operator token", operatorToken)
	n.addFiles()
	return n
}

// addFiles notes what is in the files that only the processes may read.
func (n *nest) addFiles() {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "*"))
	require.NoError(n.t, err)
	found := 0
	for _, file := range files {
		if name := filepath.Base(file); name != "keys.json" && !strings.HasSuffix(name, "key.pem") {
			continue
		}
		content, err := os.ReadFile(file)
		require.NoError(n.t, err)
		for i, secret := range regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}`).FindAllString(string(content), -1) {
			n.add(fmt.Sprintf("%s, part %d", filepath.Base(file), i), secret)
			found++
		}
	}
	require.Greater(n.t, found, len(services()), "the keys file, and a key of each process")
}

// rest makes a call and returns its status and answer.
func (n *nest) rest(method, path, token string, body any) (int, map[string]any) {
	n.t.Helper()
	var content []byte
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	default:
		var err error
		content, err = json.Marshal(b)
		require.NoError(n.t, err)
	}
	request, err := http.NewRequestWithContext(n.t.Context(), method, n.baseURL+path, bytes.NewReader(content))
	require.NoError(n.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(n.t, err)
	defer func() { _ = response.Body.Close() }()
	answer := map[string]any{}
	raw, err := io.ReadAll(response.Body)
	require.NoError(n.t, err)
	require.NoError(n.t, json.Unmarshal(raw, &answer), "%s %s: %s", method, path, raw)
	return response.StatusCode, answer
}

// ok makes a call that succeeds.
func (n *nest) ok(method, path, token string, body any) map[string]any {
	n.t.Helper()
	status, answer := n.rest(method, path, token, body)
	require.Equal(n.t, http.StatusOK, status, "%s %s: %v", method, path, answer)
	return answer
}

// refused makes a call that must fail.
func (n *nest) refused(method, path, token string, body any) {
	n.t.Helper()
	status, answer := n.rest(method, path, token, body)
	require.GreaterOrEqual(n.t, status, http.StatusBadRequest, "%s %s: %v", method, path, answer)
}

type fields = map[string]any

func text(t *testing.T, answer map[string]any, path ...string) string {
	t.Helper()
	var at any = answer
	for _, name := range path {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	found, _ := at.(string)
	require.NotEmpty(t, found, "%v in %v", path, answer)
	return found
}

// session notes the token of a session that was answered.
func (n *nest) session(what string, answer map[string]any) string {
	n.t.Helper()
	return n.add("token of "+what, text(n.t, answer, "session", "token"))
}

// setUp sets a second factor up, with a wrong code first, and returns its secret,
// the recovery codes and the token of the session that begins.
func (n *nest) setUp(who, path, token string, signIn fields) (secret string, recovery []string, session string) {
	n.t.Helper()
	begun := n.ok(http.MethodPost, path+":beginEnrollment", token, signIn)
	secret = n.add("TOTP secret of "+who, text(n.t, begun, "secret"))
	n.add("TOTP address of "+who, text(n.t, begun, "otpauthUri"))
	n.add("QR code of "+who, text(n.t, begun, "qrPng")[64:])
	confirm := fields{"enrollmentId": text(n.t, begun, "enrollmentId")}
	for name, value := range signIn {
		confirm[name] = value
	}
	wrong, err := totp.GenerateCode(secret, time.Now().Add(-time.Hour))
	require.NoError(n.t, err)
	confirm["code"] = n.addCode("wrong code of "+who, wrong)
	n.refused(http.MethodPost, path+":confirmEnrollment", token, confirm)
	confirm["code"] = "a code like " + secret
	n.refused(http.MethodPost, path+":confirmEnrollment", token, confirm)
	confirm["code"] = n.addCode("code of "+who, n.code(secret, 0))
	done := n.ok(http.MethodPost, path+":confirmEnrollment", token, confirm)
	codes, _ := done["recoveryCodes"].([]any)
	for i, code := range codes {
		recovery = append(recovery, n.add(fmt.Sprintf("recovery code %d of %s", i, who), code.(string)))
		n.add(fmt.Sprintf("recovery code %d of %s, plain", i, who), strings.ReplaceAll(code.(string), "-", ""))
	}
	require.Len(n.t, recovery, 10)
	return secret, recovery, n.session(who+" after the set-up", done)
}

func (n *nest) code(secret string, steps int) string {
	n.t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	require.NoError(n.t, err)
	return code
}

// linkToken waits for a mail and returns the token in its link.
func (n *nest) linkToken(kind, address string) string {
	n.t.Helper()
	return n.add("token of the "+kind+" to "+address, token(n.t, n.linkIn(n.t, address, kind, 1)))
}

// mistakes are what people and programs do wrong with a secret in hand.
func (n *nest) mistakes(secret string) {
	n.t.Helper()
	escaped := url.PathEscape(secret)
	quoted, err := json.Marshal(secret)
	require.NoError(n.t, err)
	signIn := fields{"account": canaryAccount, "email": "olivia@canary.example", "password": "x", "client": "WEB"}
	with := func(name string, value any) fields {
		changed := fields{name: value}
		for field, old := range signIn {
			if field != name {
				changed[field] = old
			}
		}
		return changed
	}
	for _, body := range []any{
		with("account", secret), with("email", secret), with("client", secret), with("keepMeLoggedIn", secret),
		with("password", secret+"!"), with("password", []string{secret}), with(secret, secret),
		`{"password":` + string(quoted), string(quoted), `{` + string(quoted) + `:1,` + string(quoted) + `:2}`, secret,
	} {
		n.refused(http.MethodPost, "/v1/signIn", "", body)
	}
	for _, path := range []string{
		"/v1/" + escaped, "/v1/signIn/" + escaped, "/v1/signIn:" + escaped, "/v1/me?token=" + url.QueryEscape(secret),
		"/v1/me?" + url.QueryEscape(secret) + "=1", "/v1/accounts/" + escaped, "/v1/accounts/" + canaryAccount + "/agents/" + escaped,
		"/v1/accounts/" + canaryAccount + "/agents?filter=" + url.QueryEscape(secret), "/v1/accounts/" + canaryAccount + "/agents?pageToken=" + url.QueryEscape(secret),
	} {
		n.refused(http.MethodGet, path, operatorToken+"x", nil)
		n.refused(http.MethodGet, path, strings.Map(printableASCII, secret)+"x", nil)
	}
	n.refused(http.MethodGet, "/v1/accounts/"+canaryAccount+"/agents?filter="+url.QueryEscape(secret), operatorToken, nil)
	n.refused(http.MethodGet, "/v1/accounts/"+canaryAccount+"/agents?pageToken="+url.QueryEscape(secret), operatorToken, nil)
	n.refused(http.MethodGet, "/v1/accounts/"+escaped, operatorToken, nil)
	n.refused(http.MethodPost, "/v1/signIn:verify", "", fields{"signInToken": secret + "x", "totpCode": "123456"})
	n.refused(http.MethodPost, "/v1/signIn:resetPassword", "", fields{"token": secret + "x", "password": secret})
	for _, name := range []string{"totpCode", "recoveryCode"} {
		n.refused(http.MethodPost, "/v1/signIn:verify", "", fields{"signInToken": "x", name: secret})
	}
}

func printableASCII(r rune) rune {
	if r < '!' || r > '~' || r == ',' {
		return -1
	}
	return r
}
