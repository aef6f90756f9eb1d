package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	defaultMaxConns = 16
	connectTimeout  = 5 * time.Second
	// idleInTransaction frees the row locks of a process that hangs, or is
	// stopped, inside a transaction.
	idleInTransaction = "30s"
	// schemaAttempts covers services that start together: `IF NOT EXISTS` does
	// not keep two of them from creating the same schema at the same moment.
	schemaAttempts = 5
)

func openPostgres(ctx context.Context, rawURL, schema string) (*DB, error) {
	cfg, maxConns, err := postgresConfig(rawURL, schema)
	if err != nil {
		return nil, err
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(maxConns)
	// As many idle as open: opening a connection costs more than a transaction.
	pool.SetMaxIdleConns(maxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	// Connections spread again after a failover or a change of address.
	pool.SetConnMaxLifetime(30 * time.Minute)

	if err := createSchema(ctx, pool, schema); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return &DB{dialect: postgres, schema: schema, write: pool, read: pool}, nil
}

func postgresConfig(rawURL, schema string) (*pgx.ConnConfig, int, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, 0, err
	}
	maxConns := defaultMaxConns
	query := u.Query()
	if text := query.Get("pool_max_conns"); text != "" {
		maxConns, err = strconv.Atoi(text)
		if err != nil || maxConns < 1 {
			return nil, 0, errors.New("sqldb: pool_max_conns is not a positive number")
		}
		query.Del("pool_max_conns")
		u.RawQuery = query.Encode()
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, 0, fmt.Errorf("sqldb: database URL: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.RuntimeParams["search_path"] = schema
	setDefault(cfg.RuntimeParams, "application_name", "twofold-"+schema)
	setDefault(cfg.RuntimeParams, "idle_in_transaction_session_timeout", idleInTransaction)
	// The transactions are written for this level; a server may default to
	// another.
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	return cfg, maxConns, nil
}

func setDefault(params map[string]string, key, value string) {
	if _, ok := params[key]; !ok {
		params[key] = value
	}
}

func createSchema(ctx context.Context, pool *sql.DB, schema string) error {
	var err error
	for attempt := range schemaAttempts {
		// Looking first lets a service run as a role that may not create schemas.
		var exists bool
		err = pool.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", schema).Scan(&exists)
		if err == nil && !exists {
			_, err = pool.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize())
		}
		if err == nil {
			return nil
		}
		if !IsUniqueViolation(err) {
			break
		}
		if waitErr := pause(ctx, txPause(attempt)); waitErr != nil {
			return waitErr
		}
	}
	return fmt.Errorf("sqldb: create schema %s: %w", schema, err)
}
