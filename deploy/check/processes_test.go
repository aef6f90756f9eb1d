package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	dockerfile = "../docker/Dockerfile"
	// exitBadSettings is how a process ends whose configuration is wrong, and
	// exitFailure how it ends when something else is.
	exitBadSettings, exitFailure = 2, 1
)

// Every shipped environment is understood by the process it is for: it gets as far
// as reading its certificate, which is not on this machine.
func TestProcesses_understandWhatIsShipped(t *testing.T) {
	programs := build(t)
	m, p := load(t), project(t)
	for _, name := range services() {
		for where, env := range map[string]map[string]string{
			"compose":    composeEnvironment(p, name),
			"Kubernetes": environment(t, m, m.deployments[name], func(secret, key string) string { return filledIn(m, secret, key) }),
		} {
			t.Run(name+" in "+where, func(t *testing.T) {
				code, output := start(t, filepath.Join(programs, name), env)
				require.Equal(t, exitFailure, code, output)
				require.Contains(t, output, env["TWOFOLD_TLS_CERT"]+": no such file")

				for variable := range env {
					if !strings.HasPrefix(variable, "TWOFOLD_TLS_") {
						continue
					}
					code, output = start(t, filepath.Join(programs, name), without(env, variable))
					require.Equal(t, exitBadSettings, code, output)
					require.Contains(t, output, variable+" is not set")
				}
			})
		}
	}
}

// The example's Secrets cannot be used as they are: a token that is printed here
// would be everybody's.
func TestProcesses_refuseTheExampleAsItIs(t *testing.T) {
	programs := build(t)
	m := load(t)
	for _, name := range services() {
		code, output := start(t, filepath.Join(programs, name), environment(t, m, m.deployments[name], nil))
		require.Equal(t, exitBadSettings, code, output)
		require.Contains(t, output, "TWOFOLD_OPERATOR_TOKEN is shorter")
	}
	keys := m.secrets["twofold-keys"].StringData["keys.json"]
	require.Contains(t, keys, `"secret": "REPLACE-ME"`) // no base64, so the keyring refuses it
}

// filledIn is what a key of the example's Secrets holds once it was filled in.
func filledIn(m *manifests, secret, key string) string {
	return strings.ReplaceAll(m.secrets[secret].StringData[key], "REPLACE-ME", strings.Repeat("0123456789abcdef", 4))
}

func without(env map[string]string, variable string) map[string]string {
	rest := map[string]string{}
	for name, value := range env {
		if name != variable {
			rest[name] = value
		}
	}
	return rest
}

// start runs a program in an environment and nothing else, until it ends.
func start(t *testing.T, program string, env map[string]string) (code int, output string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program)
	command.Dir = t.TempDir()
	command.Env = []string{}
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", text)
	return exit.ExitCode(), string(text)
}

// programs is where the programs are, built once.
var programs struct {
	once sync.Once
	dir  string
	err  error
	log  []byte
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		if err := os.RemoveAll(programs.dir); err != nil && code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// build builds the five services with the commands of the Dockerfile and returns
// the directory they are in.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the five services")
	}
	text, err := os.ReadFile(dockerfile)
	require.NoError(t, err)
	programs.once.Do(func() {
		//nolint:usetesting // it outlives the test that asks first; TestMain removes it
		if programs.dir, programs.err = os.MkdirTemp("", "twofold-check"); programs.err != nil {
			return
		}
		for _, name := range services() {
			command := exec.CommandContext(t.Context(), "sh", "-ec", strings.Join(commands(string(text), programs.dir, name), "\n"))
			command.Dir = "../.."
			command.Env = append(os.Environ(), environmentOf(string(text))...)
			command.Env = append(command.Env, "SERVICE="+name)
			if programs.log, programs.err = command.CombinedOutput(); programs.err != nil {
				return
			}
		}
	})
	require.NoError(t, programs.err, "%s", programs.log)
	return programs.dir
}

// commands returns what the Dockerfile runs to build a service, writing to dir.
func commands(text, dir, name string) (all []string) {
	_, stage, _ := strings.Cut(text, " AS build\n")
	stage, _, _ = strings.Cut(stage, "\nFROM ")
	for _, line := range regexp.MustCompile(`(?m)^RUN (.*)$`).FindAllStringSubmatch(stage, -1) {
		all = append(all, strings.NewReplacer("/out/service", dir+"/"+name, "/out/", dir+"/").Replace(line[1]))
	}
	return all
}

// environmentOf returns the variables that the Dockerfile builds with.
func environmentOf(text string) (env []string) {
	for _, line := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(text, -1) {
		for _, entry := range strings.Fields(line[1]) {
			if !strings.Contains(entry, "$") { // the platform is this machine's
				env = append(env, entry)
			}
		}
	}
	return env
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(dockerfile)
	require.NoError(t, err)
	require.Equal(t, []string{"GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0"}, environmentOf(string(text)))
	require.Len(t, commands(string(text), "/x", "policy"), 4)
	require.Contains(t, strings.Join(commands(string(text), "/x", "policy"), "\n"), `-o /x/policy "./$SERVICE/cmd/$SERVICE"`)
	// What is copied from the repository is there, and let into the build.
	ignore, err := os.ReadFile(dockerfile + ".dockerignore")
	require.NoError(t, err)
	for _, line := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(string(text), -1) {
		for _, path := range strings.Fields(line[1]) {
			_, err := os.Stat(filepath.Join("../..", path)) //nolint:gosec // the path is in our own Dockerfile
			require.NoError(t, err)
			top, _, _ := strings.Cut(path, "/")
			require.Contains(t, string(ignore), "\n!"+top+"\n")
		}
	}
	// Dependencies come before the code, so that a change of code keeps their layer.
	download := bytes.Index(text, []byte("go -C services mod download"))
	require.Less(t, bytes.Index(text, []byte("COPY services/go.mod")), download)
	require.Less(t, download, bytes.Index(text, []byte("COPY services services")))
	// The images run as nobody, and start their program without a shell.
	for _, stage := range strings.Split(string(text), "\nFROM ")[1:] {
		if strings.HasPrefix(stage, "${BASE_IMAGE}") {
			require.Contains(t, stage, "\nUSER 65532:65532\n")
			require.NotContains(t, stage, "RUN ")
		}
	}
	require.True(t, bytes.HasSuffix(text, []byte("ENTRYPOINT [\"/service\"]\n")))
}

// The page's table says what each process needs, as the process itself says it.
func TestProcesses_needWhatThePageSays(t *testing.T) {
	programs := build(t)
	text, err := os.ReadFile("../../docs/deploy.md")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(programs, "reencrypt"), "goes with auth")
	documented := map[string][]string{}
	var columns []string
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 9 {
			continue
		}
		if strings.TrimSpace(cells[1]) == "variable" {
			columns = cells
		}
		for i, cell := range cells[2:7] {
			if strings.TrimSpace(cell) == "●" {
				name := strings.TrimSpace(columns[i+2])
				documented[name] = append(documented[name], regexp.MustCompile(`TWOFOLD_\w+`).FindAllString(cells[1], -1)...)
			}
		}
	}
	for _, name := range services() {
		_, output := start(t, filepath.Join(programs, name), nil)
		var needed []string
		for _, line := range regexp.MustCompile(`(TWOFOLD_\w+) is not set`).FindAllStringSubmatch(output, -1) {
			needed = append(needed, line[1])
		}
		require.ElementsMatch(t, needed, documented[name], name)
	}
}
