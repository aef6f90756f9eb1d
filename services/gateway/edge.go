package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

const (
	// maxBody bounds a request; 1,000 agents to import fit.
	maxBody = 1 << 20
	// callTimeout bounds an ordinary call, importTimeout one that hashes up to
	// 1,000 passwords. Streams have no limit here, they end themselves.
	callTimeout   = 10 * time.Second
	importTimeout = 2 * time.Minute
	// maxUserAgent is as much as anybody needs to recognize a device.
	maxUserAgent = 256
)

// edge is what the gateway itself knows of a call. The services believe it from
// the gateway's certificate.
type edge struct {
	address     netip.Addr
	requestID   string
	userAgent   string
	signInToken string
}

type edgeKey struct{}

// api wraps the routes of the API with everything that is done before a call
// reaches a service.
func (s *Service) api(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writeRefusal(w, r, errs.New(codes.PermissionDenied, errs.ReasonCrossOriginRefused,
			"A page of another origin may not make this call.").GRPCStatus(), http.StatusForbidden)
	}))
	return crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")

		e := edge{address: s.clientAddress(r), requestID: uuid.NewString(), userAgent: printable(r.UserAgent(), maxUserAgent)}
		w.Header().Set("Twofold-Request-Id", e.requestID)
		ctx := r.Context()
		r = r.Clone(ctx)
		r.Header.Del("Grpc-Timeout") // the gateway's limits are not the caller's to set
		if asksForCookies(r) {
			e.signInToken = s.cookies.unpack(r)
			ctx = context.WithValue(ctx, cookieModeKey{}, true)
		}
		ctx = context.WithValue(ctx, edgeKey{}, e)
		if timeout := timeoutOf(r); timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		r = r.WithContext(ctx)
		if r.Method == http.MethodPost && r.URL.RawQuery != "" {
			s.writeRefusal(w, r, errs.New(codes.InvalidArgument, errs.ReasonUnknownField,
				"This method takes its fields in the body, not in the URL.").GRPCStatus(), http.StatusBadRequest)
			return
		}
		if r.ContentLength > maxBody {
			s.refuseSize(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	}))
}

func (s *Service) refuseSize(w http.ResponseWriter, r *http.Request) {
	s.writeRefusal(w, r, errs.New(codes.ResourceExhausted, errs.ReasonMessageTooLarge,
		"The body is larger than 1 MiB.").GRPCStatus(), http.StatusRequestEntityTooLarge)
}

func timeoutOf(r *http.Request) time.Duration {
	switch {
	case strings.HasSuffix(r.URL.Path, ":watch"):
		return 0
	case strings.HasSuffix(r.URL.Path, ":import"):
		return importTimeout
	default:
		return callTimeout
	}
}

// handOn is the metadata a call carries besides its Authorization.
func handOn(ctx context.Context, _ *http.Request) metadata.MD {
	e, _ := ctx.Value(edgeKey{}).(edge)
	md := metadata.Pairs(authz.RequestIDKey, e.requestID)
	if e.address.IsValid() {
		md.Set(authz.ClientAddressKey, e.address.String())
	}
	if e.userAgent != "" {
		md.Set(authz.UserAgentKey, e.userAgent)
	}
	if e.signInToken != "" {
		md.Set(authz.SignInTokenKey, printable(e.signInToken, maxUserAgent))
	}
	return md
}

// noHeader keeps all other headers of a request from the services.
func noHeader(string) (string, bool) { return "", false }

// clientAddress is where the caller is: the nearest hop that is none of the
// configured proxies. What stands beyond it in X-Forwarded-For anybody may have
// written (ASVS 4.1.3).
func (s *Service) clientAddress(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	address = address.Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(address); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		address = next.Unmap().WithZone("")
	}
	return address
}

func (s *Service) trusts(address netip.Addr) bool {
	for _, prefix := range s.cfg.TrustedProxies {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// printable is text as far as metadata can carry it: printable ASCII.
func printable(text string, limit int) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text)
	return clean[:min(len(clean), limit)]
}
