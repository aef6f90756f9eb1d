package gateway

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The server bounds how long a request may take to read and an answer to write.
// Neither must cut a stream, which lasts longer than both.
func TestLetStream_outlivesTheServersTimeouts(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, let := range map[string]bool{"let": true, "not let, which is why it is needed": false} {
		t.Run(name, func(t *testing.T) {
			s := &Service{cfg: DefaultConfig(), now: time.Now, log: slog.New(slog.DiscardHandler)}
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if let {
					s.letStream(r.Context(), w)
				}
				select {
				case <-r.Context().Done(): // cut
				case <-time.After(3 * limit):
					_, _ = io.WriteString(w, "still here\n")
				}
			})
			server := s.server(t.Context())
			require.NotZero(t, server.ReadTimeout)
			require.NotZero(t, server.WriteTimeout)
			server.ReadTimeout, server.WriteTimeout = limit, limit
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			go func() { _ = server.Serve(listener) }()
			defer server.Close() //nolint:errcheck // the test is over

			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/", nil)
			require.NoError(t, err)
			response, err := http.DefaultTransport.RoundTrip(request)
			if !let {
				if err == nil {
					line, _ := bufio.NewReader(response.Body).ReadString('\n')
					require.Empty(t, line)
					_ = response.Body.Close()
				}
				return
			}
			require.NoError(t, err)
			defer response.Body.Close() //nolint:errcheck // read
			line, err := bufio.NewReader(response.Body).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "still here\n", line)
		})
	}
}
