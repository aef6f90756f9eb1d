package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

// services is the five processes in the order in which they are started here; any
// would do.
func services() []string { return []string{"session", "policy", "auth", "notifier", "gateway"} }

// processes is the suite as it is deployed: five processes with mutual TLS, on
// PostgreSQL, Redis, NATS and a mail server.
type processes struct {
	running
	addrs     map[string]string
	children  map[string]*testkit.Process
	authority *mtls.Authority
	sink      *mailsink.Server
	dir       string // of their keys
}

// startProcesses starts the five processes. What more says of a process is set
// beside everything else, or in its place.
func startProcesses(t *testing.T, more ...func(name string) []string) *processes {
	t.Helper()
	programDir := filepath.Dir(binary(t, "policy"))
	dir := t.TempDir()
	authority, err := mtls.OpenAuthority(dir, time.Now)
	require.NoError(t, err)
	keys := filepath.Join(dir, "keys.json")
	require.NoError(t, keyring.Generate(keys))
	p := &processes{
		addrs: map[string]string{}, children: map[string]*testkit.Process{},
		authority: authority, sink: mailsink.Start(t, mailsink.Options{}), dir: dir,
	}
	rest := freeAddr(t)
	p.baseURL = "http://" + rest
	common := []string{
		"TWOFOLD_DATABASE_URL=" + testkit.Postgres(t), "TWOFOLD_REDIS_URL=" + testkit.Redis(t).URL(),
		"TWOFOLD_NATS_URL=" + testkit.NATS(t).URL(), "TWOFOLD_SMTP_URL=" + p.sink.URL(),
		"TWOFOLD_MAIL_FROM=Twofold <no-reply@twofold.example>", "TWOFOLD_PUBLIC_URL=" + p.baseURL,
		"TWOFOLD_KEYS_FILE=" + keys, "TWOFOLD_OPERATOR_TOKEN=" + operatorToken, "TWOFOLD_HTTP_ADDR=" + rest,
		"TWOFOLD_TLS_CA=" + filepath.Join(dir, "ca.pem"), "TWOFOLD_LOG_LEVEL=warn",
	}
	for _, name := range services() {
		require.NoError(t, authority.IssueFiles(dir, name))
		p.addrs[name] = freeAddr(t)
	}
	for _, name := range []string{"policy", "auth", "session", "notifier"} {
		common = append(common, fmt.Sprintf("TWOFOLD_%s_ADDR=%s", strings.ToUpper(name), p.addrs[name]))
	}
	for _, name := range services() {
		own := append([]string{
			"TWOFOLD_GRPC_ADDR=" + p.addrs[name],
			"TWOFOLD_TLS_CERT=" + filepath.Join(dir, name+".pem"), "TWOFOLD_TLS_KEY=" + filepath.Join(dir, name+"-key.pem"),
		}, common...)
		for _, add := range more {
			own = append(own, add(name)...)
		}
		p.children[name] = testkit.StartProcess(t, filepath.Join(programDir, name), own...)
	}
	p.mail = mailsTo(p.sink)
	p.connect = p.connectAs(t, "platform")
	awaitReady(t, p.baseURL)
	return p
}

// connectAs returns connections to all services with an identity.
func (p *processes) connectAs(t *testing.T, identity string) func(string) grpc.ClientConnInterface {
	t.Helper()
	source, err := p.authority.Source(identity)
	require.NoError(t, err)
	conns := map[string]*grpc.ClientConn{}
	for name, addr := range p.addrs {
		conns[name] = dial(t, addr, source, name)
	}
	return func(service string) grpc.ClientConnInterface { return conns[service] }
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t)))
}

func TestStory_fiveProcesses(t *testing.T) {
	t.Parallel()
	startProcesses(t).play(t, 20*time.Second)
}
