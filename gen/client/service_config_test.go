package client_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/twofold-auth/twofold/gen/client"
	_ "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	_ "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	_ "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	_ "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	_ "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	_ "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

var update = flag.Bool("update", false, "write service_config.json anew")

// reads are the methods that change nothing, by how the suite names them.
// ValidateSession may note that the session was used, which twice is the same.
var reads = regexp.MustCompile(`^(Get|List|BatchGet|Count|Preview|Validate)`)

const (
	verdict = "twofold.session.v1.SessionService/ValidateSession"
	imports = "twofold.auth.v1.AgentService/ImportAgents"
)

type serviceConfig struct {
	LoadBalancingConfig []map[string]struct{} `json:"loadBalancingConfig"`
	HealthCheckConfig   map[string]string     `json:"healthCheckConfig"`
	RetryThrottling     map[string]float64    `json:"retryThrottling"`
	MethodConfig        []methodConfig        `json:"methodConfig"`
}

type methodConfig struct {
	Name         []methodName `json:"name"`
	WaitForReady bool         `json:"waitForReady"`
	Timeout      string       `json:"timeout,omitempty"`
	RetryPolicy  *retryPolicy `json:"retryPolicy,omitempty"`
}

type methodName struct {
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
}

type retryPolicy struct {
	MaxAttempts          int      `json:"maxAttempts"`
	InitialBackoff       string   `json:"initialBackoff"`
	MaxBackoff           string   `json:"maxBackoff"`
	BackoffMultiplier    int      `json:"backoffMultiplier"`
	RetryableStatusCodes []string `json:"retryableStatusCodes"`
}

// The config names every method that is not like the others. A new read is
// repeated, and a new stream has no deadline, once this was run with -update.
func TestServiceConfig_namesEveryMethodOfTheProtos(t *testing.T) {
	unavailable := []string{"UNAVAILABLE"}
	config := serviceConfig{
		LoadBalancingConfig: []map[string]struct{}{{"round_robin": {}}},
		HealthCheckConfig:   map[string]string{"serviceName": ""},
		RetryThrottling:     map[string]float64{"maxTokens": 100, "tokenRatio": 0.1},
		MethodConfig: []methodConfig{
			{Name: []methodName{{}}, WaitForReady: true, Timeout: "10s"},
			{Name: namesOf(t, func(m method) bool { return m.name == verdict }), WaitForReady: true, Timeout: "2s",
				RetryPolicy: &retryPolicy{3, "0.05s", "0.5s", 2, unavailable}},
			{Name: namesOf(t, func(m method) bool { return m.read && !m.stream && m.name != verdict }), WaitForReady: true, Timeout: "10s",
				RetryPolicy: &retryPolicy{4, "0.1s", "1s", 2, unavailable}},
			{Name: namesOf(t, func(m method) bool { return m.name == imports }), WaitForReady: true, Timeout: "120s"},
			{Name: namesOf(t, func(m method) bool { return m.stream }), WaitForReady: true},
		},
	}
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(config); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("service_config.json", want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if client.ServiceConfig != want.String() {
		t.Fatal("service_config.json is not what the protos call for: run go test ./client -run ServiceConfig -update in gen")
	}
}

// A package that this test does not know would have its reads not repeated and its
// streams cut off, in silence.
func TestServiceConfig_knowsEveryPackage(t *testing.T) {
	known := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		known[strings.TrimSuffix(path.Dir(file.Path()), "/v1")] = true
		return true
	})
	packages, err := os.ReadDir("../twofold")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if !known["twofold/"+p.Name()] {
			t.Errorf("package %s is not imported by this test", p.Name())
		}
	}
}

type method struct {
	name         string // package.Service/Method
	read, stream bool
}

func methods() (all []method) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			if !strings.HasPrefix(string(service.FullName()), "twofold.") {
				continue
			}
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				all = append(all, method{
					name: fmt.Sprintf("%s/%s", service.FullName(), m.Name()), read: reads.MatchString(string(m.Name())),
					stream: m.IsStreamingClient() || m.IsStreamingServer(),
				})
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b method) int { return strings.Compare(a.name, b.name) })
	return all
}

func namesOf(t *testing.T, belongs func(method) bool) (names []methodName) {
	t.Helper()
	for _, m := range methods() {
		if belongs(m) {
			service, name, _ := strings.Cut(m.name, "/")
			names = append(names, methodName{service, name})
		}
	}
	if len(names) == 0 {
		t.Fatal("no method is of this kind")
	}
	return names
}
