package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"

	"github.com/twofold-auth/twofold/services/internal/authz"
)

const (
	// maxBody bounds a request. It leaves 1 KiB for each of 1,000 agents to import,
	// four times of what one with a password hash needs.
	maxBody = 1 << 20
	// importTimeout is for a call that hashes up to 1,000 passwords.
	importTimeout = 2 * time.Minute
	// maxUserAgent is as much as anybody needs to recognize a device.
	maxUserAgent = 256
)

// edge is what the gateway itself knows of a call. The services believe it from
// the gateway's certificate.
type edge struct {
	address   netip.Addr
	requestID string
	userAgent string
	// cookies says that the caller is a browser, which gets tokens in cookies.
	cookies     bool
	signInToken string
}

type edgeKey struct{}

func edgeOf(ctx context.Context) edge {
	e, _ := ctx.Value(edgeKey{}).(edge)
	return e
}

// api wraps the routes of the API with everything that is done before it is known
// which of them a call is for.
func (s *Service) api(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := edge{
			address:   s.clientAddress(r),
			requestID: uuid.Must(uuid.NewV7()).String(),
			userAgent: printable(r.UserAgent(), maxUserAgent),
		}
		visitOf(r.Context()).requestID = e.requestID
		ctx := authz.NewContext(r.Context(), &authz.Caller{RequestID: e.requestID}) // for the log
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Twofold-Request-Id", e.requestID)
		if err := crossOrigin.Check(r); err != nil {
			s.refuse(w, r, errCrossing.WithCause(err))
			return
		}
		r = r.Clone(ctx)
		for _, name := range noOneElses {
			r.Header.Del(name)
		}
		if asksForCookies(r) {
			e.cookies = true
			e.signInToken = unpack(r)
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, edgeKey{}, e)))
	})
}

// noOneElses are the headers that grpc-gateway reads by itself, whatever else is
// kept from it: deadlines are the gateway's to set, and addresses to find out.
var noOneElses = []string{"Grpc-Timeout", "X-Forwarded-For", "X-Forwarded-Host"}

// handOn is the metadata a call carries besides its Authorization.
func handOn(ctx context.Context, _ *http.Request) metadata.MD {
	e := edgeOf(ctx)
	md := metadata.Pairs(authz.RequestIDKey, e.requestID)
	if e.address.IsValid() {
		md.Set(authz.ClientAddressKey, e.address.String())
	}
	if e.userAgent != "" {
		md.Set(authz.UserAgentKey, e.userAgent)
	}
	if e.signInToken != "" {
		md.Set(authz.SignInTokenKey, e.signInToken)
	}
	return md
}

// noHeader keeps all other headers of a request from the services.
func noHeader(string) (string, bool) { return "", false }

// clientAddress is where the caller is: the nearest hop that is none of the
// configured proxies. What stands beyond it in X-Forwarded-For anybody may have
// written (ASVS 4.1.3).
func (s *Service) clientAddress(r *http.Request) netip.Addr {
	address, ok := parseHop(r.RemoteAddr)
	if !ok {
		return netip.Addr{}
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(address); i-- {
		next, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		address = next
	}
	return address
}

// parseHop reads an address of X-Forwarded-For; some proxies write the port too.
func parseHop(text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		address = withPort.Addr()
	}
	return address.Unmap().WithZone(""), true
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
