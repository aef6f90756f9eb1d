package sqldb

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRebind(t *testing.T) {
	for query, want := range map[string]string{
		`SELECT 1`:                      `SELECT 1`,
		`a = ? AND b = ?`:               `a = $1 AND b = $2`,
		`a = '?' AND b = ?`:             `a = '?' AND b = $1`,
		`a = 'it''s ?' AND b = ?`:       `a = 'it''s ?' AND b = $1`,
		`"what?" = ?`:                   `"what?" = $1`,
		"a = ? -- why?\nAND b = ?":      "a = $1 -- why?\nAND b = $2",
		`a = ? /* why? */ AND b = ?`:    `a = $1 /* why? */ AND b = $2`,
		`a = $$why?$$ AND b = ?`:        `a = $$why?$$ AND b = $1`,
		`a = $x1$why?$$?$x1$ AND b = ?`: `a = $x1$why?$$?$x1$ AND b = $1`,
		`a = $1 AND b = ?`:              `a = $1 AND b = $1`,
		`a = 'open ?`:                   `a = 'open ?`,
		`a = ? -- open ?`:               `a = $1 -- open ?`,
		`a IN (?,?,?,?,?,?,?,?,?,?) AND ü = 'ü' AND ?`: `a IN ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) AND ü = 'ü' AND $11`,
	} {
		require.Equal(t, want, rebind(query), query)
	}
}

func TestRebinder_cacheIsBounded(t *testing.T) {
	var r rebinder
	for i := range maxRebound + 100 {
		require.Equal(t, fmt.Sprintf("SELECT %d, $1", i), r.rebind(fmt.Sprintf("SELECT %d, ?", i)))
	}
	require.EqualValues(t, maxRebound, r.size.Load())
	require.Equal(t, "SELECT 1, $1", r.rebind("SELECT 1, ?"))
}
