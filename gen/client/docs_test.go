package client_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	page   = "../../docs/grpc.md"
	readme = "../../README.md"
	target = "dns:///session.twofold:9090" // what the program on the page dials
)

// The program on the page, pasted into an empty module, builds, runs, and does
// what the page says.
func TestDocs_programRunsInAnEmptyModule(t *testing.T) {
	if _, err := os.Stat("../../go.work"); err != nil {
		t.Skip("the pages are in the repository, not in the module")
	}
	a := newAuthority(t)
	s := a.serve(session)
	var revoked atomic.Bool
	s.validate = func(ctx context.Context) error {
		if got := metadata.ValueFromIncomingContext(ctx, "authorization"); got != nil {
			t.Errorf("authorization %q", got)
		}
		if !revoked.Load() {
			return nil
		}
		st, err := status.New(codes.Unauthenticated, "Signed out.").WithDetails(
			&errdetails.ErrorInfo{Reason: "SESSION_REVOKED", Domain: "twofold"})
		if err != nil {
			return err
		}
		return st.Err()
	}
	dir := t.TempDir()
	a.files(dir, a.issue(platform))
	program := programOf(t, page)
	if strings.Count(program, target) != 1 {
		t.Fatalf("the program does not dial %s", target)
	}
	build(t, dir, strings.Replace(program, target, s.addr, 1))

	output := run(t, dir, "token-of-ann")
	if want := s.addr + "\n"; output != want { // the server answers with its address for an agent
		t.Fatalf("got %q, want %q", output, want)
	}
	revoked.Store(true)
	if output = run(t, dir, "token-of-ann"); !strings.Contains(output, "SESSION_REVOKED") {
		t.Fatalf("got %q", output)
	}
}

func TestDocs_readmeShowsTheSameProgram(t *testing.T) {
	if _, err := os.Stat("../../go.work"); err != nil {
		t.Skip("the pages are in the repository, not in the module")
	}
	if programOf(t, readme) != programOf(t, page) {
		t.Fatal("the programs in README.md and docs/grpc.md differ")
	}
}

// The page says where each service is. How the gateway reads what it merges is no
// business of its readers.
func TestDocs_pageNamesEveryService(t *testing.T) {
	if _, err := os.Stat("../../go.work"); err != nil {
		t.Skip("the pages are in the repository, not in the module")
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[2], "dns:///") {
			for name := range strings.SplitSeq(cells[3], ",") {
				said[strings.TrimSpace(name)] = true
			}
		}
	}
	for _, m := range methods() {
		service, _, _ := strings.Cut(m.name, "/")
		name := service[strings.LastIndex(service, ".")+1:]
		if name != "AuditTrailService" && !said[name] {
			t.Errorf("the page does not say where %s is", name)
		}
	}
}

// programOf returns the first Go program of a page.
func programOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\npackage main\n")
	program, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatalf("%s shows no program", path)
	}
	return "package main\n" + program
}

// build makes dir an empty module with a program and compiles it. The versions of
// what gen depends on come from gen's own files, so nothing is downloaded.
func build(t *testing.T, dir, program string) {
	t.Helper()
	gen, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"main.go": program,
		"go.sum":  string(sums),
		"go.mod": "module example.com/platform\n\ngo 1.26.0\n\nrequire github.com/twofold-auth/twofold/gen v0.0.0\n\n" +
			"replace github.com/twofold-auth/twofold/gen => " + gen + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", "program", ".")
	command.Dir, command.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// run runs the program and returns what it printed, whatever it thought of it.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(dir, "program"), args...)
	command.Dir = dir
	output, err := command.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed { //nolint:errorlint // Run wraps nothing
		t.Fatal(err)
	}
	return string(output)
}
