package auth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRemoveExpired(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		future := time.Now().Add(time.Minute).UnixMicro()
		dayOld := time.Now().Add(-25 * time.Hour).UnixMicro()
		// More than are removed at a time.
		for part := range 12 {
			var sql string
			for i := range 100 {
				if i > 0 {
					sql += ", "
				}
				sql += fmt.Sprintf("('%d-%d', 1, 0, %d)", part, i, dayOld)
			}
			s.exec(`INSERT INTO password_failures (id, failures, blocked_time, update_time) VALUES ` + sql)
		}
		s.exec(`INSERT INTO password_failures (id, failures, blocked_time, update_time) VALUES ('young', 1, 0, ?)`,
			time.Now().Add(-23*time.Hour).UnixMicro())
		old := w.challenges(2)
		s.exec(`UPDATE sign_ins SET expire_time = 1`)
		w.challenges(1)
		s.exec(`INSERT INTO enrollments (agent_id, id, begun_by, secret, failures, create_time, expire_time)
			SELECT id, 'e', 'x', ?, 0, 1, ? FROM agents`, []byte{1}, future)
		w.person("ann@example.com")
		s.exec(`INSERT INTO enrollments (agent_id, id, begun_by, secret, failures, create_time, expire_time)
			SELECT id, 'old', 'x', ?, 0, 1, 2 FROM agents WHERE email_key = 'ann@example.com'`, []byte{1})
		require.Len(t, old, 2)

		w.background()
		require.Eventually(t, func() bool {
			return s.number(`SELECT count(*) FROM password_failures`) == 1 &&
				s.number(`SELECT count(*) FROM sign_ins`) == 1 && s.number(`SELECT count(*) FROM enrollments`) == 1
		}, 20*time.Second, 20*time.Millisecond)
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM enrollments WHERE id = 'e'`))
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM password_failures WHERE id = 'young'`))
	})
}
