package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// world is a database of auth with one agent, and a keys file.
type world struct {
	t    *testing.T
	url  string
	file string
	db   *sqldb.DB
}

func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB) string{"sqlite": testkit.SQLite, "postgres": testkit.Postgres} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, url: url(t), file: filepath.Join(t.TempDir(), "keys.json")}
			require.NoError(t, keyring.Generate(w.file))
			var err error
			w.db, err = sqldb.Open(t.Context(), w.url, auth.Schema)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, w.db.Close()) })
			require.NoError(t, w.db.Migrate(t.Context(), auth.Migrations()))
			w.exec(`INSERT INTO accounts (id, display_name, owner_id, create_time) VALUES ('acme', 'Acme', 'ada', 1)`)
			w.exec(`INSERT INTO agents (id, account, email, email_key, display_name, name_key, role, state, has_password, has_sso, has_factor,
				mfa_state_time, version, last_sign_in_time, create_time, update_time)
				VALUES ('ada', 'acme', 'a@b.example', 'a@b.example', 'Ada', 'ada', 'OWNER', 'ACTIVE', TRUE, FALSE, TRUE, 1, 1, 1, 1, 1)`)
			test(t, w)
		})
	}
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), query, args...)
	require.NoError(w.t, err)
}

func (w *world) keys() *keyring.Keyring {
	w.t.Helper()
	keys, err := keyring.Load(w.file)
	require.NoError(w.t, err)
	return keys
}

// factors stores n factors of the agent under the primary key.
func (w *world) factors(n int) {
	w.t.Helper()
	keys := w.keys()
	for i := range n {
		id := fmt.Sprintf("factor-%03d", i)
		w.exec(`INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time) VALUES (?, 'ada', 'TOTP', ?, 0, 0, 0)`,
			id, keys.Seal("totp-secret", []byte("12345678901234567890"), "acme", "ada", id, "TOTP"))
	}
}

// codes stores n hashes of recovery codes under the primary key.
func (w *world) codes(n int) {
	w.t.Helper()
	keys := w.keys()
	for i := range n {
		w.exec(`INSERT INTO recovery_codes (agent_id, generation, position, mac) VALUES ('ada', '1764000000000000', ?, ?)`,
			i+1, keys.MAC("recovery-code", "acme", "ada", "1764000000000000", fmt.Sprint(i)))
	}
}

func (w *world) run(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, err bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	c := &command{
		environ: []string{"TWOFOLD_DATABASE_URL=" + w.url, "TWOFOLD_KEYS_FILE=" + w.file}, stdout: &out, stderr: &err,
		now: func() time.Time { now = now.Add(300 * time.Millisecond); return now },
	}
	code = c.run(w.t.Context(), args)
	return code, out.String(), err.String()
}

func TestRun(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		old := w.keys().Primary()
		w.factors(450)
		w.codes(7)
		_, err := keyring.Add(w.file, "new")
		require.NoError(t, err)
		require.NoError(t, keyring.Promote(w.file, "new"))

		code, stdout, stderr := w.run("-count")
		require.Equal(t, exitRemains, code)
		require.Empty(t, stderr)
		require.Regexp(t, `(?m)^TOTP secrets +`+old+` +450 +0 +to be made anew$`, stdout)
		require.Regexp(t, `(?m)^`+old+`: needed by 450 TOTP secrets, 7 recovery codes$`, stdout)

		code, stdout, stderr = w.run()
		require.Equal(t, exitDone, code)
		require.Equal(t, "TOTP secrets: 400 of 450, 400 made anew, 333/s\nTOTP secrets: 450 of 450, 450 made anew, 300/s\n", stderr)
		require.Regexp(t, `(?m)^TOTP secrets +new +450 +0 *$`, stdout)
		require.Regexp(t, `(?m)^recovery codes +`+old+` +7 +0 +of 1 agents, the newest of 2025-11-24; gone when used or made anew$`, stdout)
		require.Regexp(t, `(?m)^primary: new$`, stdout)
		require.Regexp(t, `(?m)^`+old+`: needed by 7 recovery codes$`, stdout)
		for _, secret := range []string{"12345678901234567890", `"secret"`} {
			require.NotContains(t, stdout+stderr, secret)
		}

		w.exec(`DELETE FROM recovery_codes`)
		code, stdout, _ = w.run()
		require.Equal(t, exitDone, code)
		require.Regexp(t, `(?m)^`+old+`: nothing is under it$`, stdout)
		require.NoError(t, keyring.Remove(w.file, old))
		code, stdout, _ = w.run("-count")
		require.Equal(t, exitDone, code)
		require.NotContains(t, stdout, old)
	})
}

func TestRun_unreadable_fails(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		old := w.keys().Primary()
		w.factors(2)
		w.codes(1)
		w.exec(`UPDATE factors SET secret = ? WHERE id = 'factor-001'`, []byte("garbage"))
		_, err := keyring.Add(w.file, "new")
		require.NoError(t, err)
		require.NoError(t, keyring.Promote(w.file, "new"))
		require.NoError(t, keyring.Remove(w.file, old))

		code, stdout, _ := w.run()
		require.Equal(t, exitRemains, code)
		require.Regexp(t, `(?m)^TOTP secrets +`+old+` +1 +1 +the key is not in the keys file$`, stdout)
		require.Regexp(t, `(?m)^TOTP secrets +\? +1 +1 +damaged$`, stdout)
		require.Regexp(t, `(?m)^recovery codes +`+old+` +1 +1 +the key is not in the keys file; of 1 agents`, stdout)
		require.Len(t, regexp.MustCompile(`(?m)^unreadable .*: accounts/acme/agents/ada$`).FindAllString(stdout, -1), 3)
	})
}

func TestRun_mistakes(t *testing.T) {
	w := &world{t: t, url: testkit.SQLite(t), file: filepath.Join(t.TempDir(), "keys.json")}
	code, _, stderr := w.run()
	require.Equal(t, exitUnknown, code)
	require.Contains(t, stderr, "no such file")
	require.NoError(t, keyring.Generate(w.file))
	code, _, _ = w.run()
	require.Equal(t, exitUnknown, code, "no tables")
	code, _, _ = w.run("everything")
	require.Equal(t, exitUnknown, code)
	var out bytes.Buffer
	c := &command{stdout: &out, stderr: &out, now: time.Now}
	require.Equal(t, exitUnknown, c.run(t.Context(), nil))
	require.Contains(t, out.String(), "TWOFOLD_DATABASE_URL is not set")
	require.Contains(t, out.String(), "TWOFOLD_KEYS_FILE is not set")
}
