package auth_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/internal/audit"
)

// The tables of the audit log are as package audit wants them.
func TestMigrations_holdTheSchemaOfTheAuditLog(t *testing.T) {
	for file, schema := range map[string]string{
		"0002_audit.postgres.sql": audit.ImmutablePostgres,
		"0002_audit.sqlite.sql":   audit.ImmutableSQLite,
	} {
		migration, err := fs.ReadFile(auth.Migrations(), file)
		require.NoError(t, err)
		require.Contains(t, string(migration), audit.Schema, file)
		require.Contains(t, string(migration), schema, file)
	}
}
