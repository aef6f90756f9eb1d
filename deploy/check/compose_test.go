package check

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

const composeFile = "../compose.yaml"

// compose reads the compose file as Compose does.
func compose(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	path, err := filepath.Abs(composeFile)
	require.NoError(t, err)
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: filepath.Dir(path), ConfigFiles: []types.ConfigFile{{Filename: path}}, Environment: env,
	})
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := compose(t, map[string]string{"TWOFOLD_OPERATOR_TOKEN": strings.Repeat("a", 64)})
	require.NoError(t, err)
	return p
}

// Whoever runs it chooses the operator's token: one that is printed here would be
// everybody's.
func TestCompose_asksForTheOperatorToken(t *testing.T) {
	_, err := compose(t, nil)
	require.ErrorContains(t, err, "TWOFOLD_OPERATOR_TOKEN")
}

func jobs() []string { return []string{"certificates", "keys"} }

func TestCompose_hardensEveryContainer(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		require.True(t, s.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, s.CapDrop, name)
		require.Empty(t, s.CapAdd, name)
		require.False(t, s.Privileged, name)
		require.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, name)
		}
		if slices.Contains(jobs(), name) {
			require.Equal(t, "no", s.Restart, name)
			require.Equal(t, "none", s.NetworkMode, name)
			continue
		}
		require.NotNil(t, s.HealthCheck, name)
		require.NotEmpty(t, s.HealthCheck.Test, name)
		require.Positive(t, s.MemLimit, name)
		for _, volume := range s.Volumes {
			if volume.Type == types.VolumeTypeBind {
				_, err := os.Stat(volume.Source)
				require.NoError(t, err, name)
				require.True(t, volume.ReadOnly, name)
			}
		}
	}
	for _, name := range services() {
		s := p.Services[name]
		require.Equal(t, "65532:65532", s.User, name)
		require.NotNil(t, s.Environment["TWOFOLD_SHUTDOWN_TIMEOUT"], name)
		timeout, err := time.ParseDuration(*s.Environment["TWOFOLD_SHUTDOWN_TIMEOUT"])
		require.NoError(t, err, name)
		require.GreaterOrEqual(t, time.Duration(*s.StopGracePeriod), timeout+5*time.Second, name)
		require.Equal(t, name, *s.Build.Args["SERVICE"], name)
		require.Equal(t, "service", s.Build.Target, name)
		dockerfile := filepath.Join(s.Build.Context, s.Build.Dockerfile)
		_, err = os.Stat(dockerfile)
		require.NoError(t, err)
		require.True(t, s.Volumes[0].ReadOnly, name)
	}
	for name, network := range p.Networks {
		require.Equal(t, name != "edge", bool(network.Internal), name)
	}
}

// What a service's environment names is there, in a network it is in, and is
// waited for.
func TestCompose_addressesLeadToListeners(t *testing.T) {
	p := project(t)
	ports := map[string]string{"postgres": "5432", "redis": "6379", "nats": "4222", "mail": "1025"}
	reaches := func(from, to string) {
		t.Helper()
		require.Contains(t, p.Services, to)
		require.True(t, slices.ContainsFunc(sortedKeys(p.Services[from].Networks), func(network string) bool {
			_, shared := p.Services[to].Networks[network]
			return shared
		}), "%s shares no network with %s", from, to)
	}
	for _, name := range services() {
		env := composeEnvironment(p, name)
		require.Equal(t, calls()[name], callees(t, env, func(host string, port int32) {
			reaches(name, host)
			require.Equal(t, portOf(t, composeEnvironment(p, host)["TWOFOLD_GRPC_ADDR"]), port)
		}), name)
		for _, variable := range []string{"TWOFOLD_DATABASE_URL", "TWOFOLD_REDIS_URL", "TWOFOLD_NATS_URL", "TWOFOLD_SMTP_URL"} {
			if env[variable] == "" {
				continue
			}
			u, err := url.Parse(env[variable])
			require.NoError(t, err)
			reaches(name, u.Hostname())
			require.Equal(t, ports[u.Hostname()], u.Port(), "%s %s", name, variable)
			require.Contains(t, p.Services[name].DependsOn, u.Hostname(), name)
		}
		for on, dependency := range p.Services[name].DependsOn {
			want := types.ServiceConditionHealthy
			if slices.Contains(jobs(), on) {
				want = types.ServiceConditionCompletedSuccessfully
			}
			require.Equal(t, want, dependency.Condition, "%s on %s", name, on)
		}
		require.Contains(t, p.Services["certificates"].Command, name)
		require.Equal(t, "/run/twofold/"+name+".pem", env["TWOFOLD_TLS_CERT"])
		require.Equal(t, "/run/twofold/"+name+"-key.pem", env["TWOFOLD_TLS_KEY"])
		require.Equal(t, "/run/twofold", p.Services[name].Volumes[0].Target)
		if path, ok := env["TWOFOLD_KEYS_FILE"]; ok {
			require.Equal(t, types.ShellCommand{path}, p.Services["keys"].Command)
		}
	}
}

func composeEnvironment(p *types.Project, service string) map[string]string {
	env := map[string]string{}
	for name, value := range p.Services[service].Environment {
		if value != nil {
			env[name] = *value
		}
	}
	return env
}

// Each service has a role of its own, which may look into its own schema only.
func TestCompose_databaseRolesAreMade(t *testing.T) {
	script, err := os.ReadFile("../config/postgres.sql")
	require.NoError(t, err)
	p := project(t)
	for _, name := range []string{"policy", "auth", "notifier"} {
		u, err := url.Parse(composeEnvironment(p, name)["TWOFOLD_DATABASE_URL"])
		require.NoError(t, err)
		password, _ := u.User.Password()
		require.Equal(t, name, u.User.Username())
		require.Contains(t, string(script), "CREATE ROLE "+name+" LOGIN PASSWORD '"+password+"';")
		require.Contains(t, string(script), "CREATE SCHEMA "+name+" AUTHORIZATION "+name+";")
		require.Equal(t, "/"+*p.Services["postgres"].Environment["POSTGRES_DB"], u.Path)
	}
}

// The two settings that revocations depend on, as the servers understand them.
func TestCompose_storesForgetNothing(t *testing.T) {
	nats, err := server.ProcessConfigFile("../config/nats.conf")
	require.NoError(t, err)
	require.True(t, nats.JetStream)
	require.True(t, nats.SyncAlways)
	require.Equal(t, 4222, nats.Port)
	p := project(t)
	require.Equal(t, nats.StoreDir, p.Services["nats"].Volumes[0].Target)
	require.Equal(t, "http://127.0.0.1:8222/healthz", p.Services["nats"].HealthCheck.Test[len(p.Services["nats"].HealthCheck.Test)-1])
	require.Equal(t, 8222, nats.HTTPPort)

	redis, err := os.ReadFile("../config/redis.conf")
	require.NoError(t, err)
	lines := strings.Split(string(redis), "\n")
	require.Contains(t, lines, "maxmemory-policy noeviction")
	require.Contains(t, lines, "appendonly yes")
	require.Contains(t, lines, "dir "+p.Services["redis"].Volumes[0].Target)
}
