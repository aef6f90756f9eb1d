package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// protoPackages is what the protos of the suite are in.
const protoPackages = "twofold."

// route is what the protos say of one REST route. The generated handlers know it
// too, but they ignore what a route does not have: query parameters of routes
// that take none, and bodies of routes without one.
type route struct {
	rpc   string
	input protoreflect.MessageType
	// body is `*` when the body is the whole request, the name of the field that
	// it is, or empty for routes without a body.
	body     string
	bodyType protoreflect.MessageType
	streams  bool
	open     bool // looks at no credentials
	path     *regexp.Regexp
}

// routeKey is how grpc-gateway names a route.
type routeKey struct{ method, pattern string }

// readRoutes returns the routes of the suite's protos.
func readRoutes() (map[routeKey]*route, error) {
	routes := map[routeKey]*route{}
	var problems []error
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), protoPackages) {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				problems = append(problems, addRoute(routes, methods.Get(j)))
			}
		}
		return true
	})
	return routes, errors.Join(problems...)
}

func addRoute(routes map[routeKey]*route, method protoreflect.MethodDescriptor) error {
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil // for gRPC alone
	}
	key, template := patternOf(rule)
	r := &route{
		rpc:     fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()),
		body:    rule.GetBody(),
		streams: method.IsStreamingServer(),
		open:    isOpen(method),
		path:    matcher(template),
	}
	var err error
	if r.input, err = protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName()); err != nil {
		return fmt.Errorf("gateway: %s: %w", r.rpc, err)
	}
	switch r.body {
	case "":
		r.bodyType = (*emptypb.Empty)(nil).ProtoReflect().Type()
	case "*":
		r.bodyType = r.input
	default:
		field := method.Input().Fields().ByName(protoreflect.Name(r.body))
		if r.bodyType, err = protoregistry.GlobalTypes.FindMessageByName(field.Message().FullName()); err != nil {
			return fmt.Errorf("gateway: %s: %w", r.rpc, err)
		}
	}
	routes[key] = r
	return nil
}

// variable is a variable of a path template that stands for one segment; where
// grpc-gateway spells the pattern out, it says so.
var variable = regexp.MustCompile(`\{([A-Za-z0-9_.]+)\}`)

func patternOf(rule *annotations.HttpRule) (key routeKey, template string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		key.method, template = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		key.method, template = http.MethodPost, p.Post
	case *annotations.HttpRule_Patch:
		key.method, template = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Put:
		key.method, template = http.MethodPut, p.Put
	case *annotations.HttpRule_Delete:
		key.method, template = http.MethodDelete, p.Delete
	}
	template = variable.ReplaceAllString(template, "{$1=*}")
	key.pattern = template
	return key, template
}

// captures are the variables of a spelled-out template.
var captures = regexp.MustCompile(`\{[A-Za-z0-9_.]+=([^}]*)\}`)

func matcher(template string) *regexp.Regexp {
	plain := captures.ReplaceAllString(template, "$1")
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(plain), `\*`, `[^/]+`) + "$")
}

// methodsOf returns the HTTP methods there is a route for at a path.
func methodsOf(routes map[routeKey]*route, path string) []string {
	methods := map[string]bool{}
	for key, r := range routes {
		if r.path.MatchString(path) {
			methods[key.method] = true
		}
	}
	return slices.Sorted(maps.Keys(methods))
}

// enter stands before the generated handler of each route. It reads the body, lets
// pass only what the route's request has room for, and sets the call's deadline.
func (s *Service) enter(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		to := s.routes[routeKey{r.Method, pattern.String()}]
		if to == nil {
			s.refuse(w, r, errs.Internal(fmt.Errorf("gateway: nothing known of the route %s", pattern)))
			return
		}
		visitOf(r.Context()).route = pattern.String()
		body, refusal := readBody(w, r)
		if refusal == nil {
			refusal = to.check(r.URL.RawQuery, body, path)
		}
		if refusal != nil {
			s.refuse(w, r, refusal)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if to.streams {
			s.letStream(r.Context(), w)
		} else {
			ctx, cancel := context.WithTimeout(r.Context(), s.timeoutOf(to))
			defer cancel()
			r = r.WithContext(ctx)
		}
		next(w, r, path)
	}
}

func (s *Service) timeoutOf(to *route) time.Duration {
	if to.rpc == authv1.AgentService_ImportAgents_FullMethodName {
		return max(importTimeout, s.cfg.CallTimeout)
	}
	return s.cfg.CallTimeout
}

// letStream lifts the limits that the server puts on the connection of a call,
// which would cut a stream. It ends by itself.
func (s *Service) letStream(ctx context.Context, w http.ResponseWriter) {
	connection := http.NewResponseController(w)
	err := errors.Join(
		connection.SetReadDeadline(time.Time{}),
		connection.SetWriteDeadline(s.now().Add(s.cfg.WatchLimit+s.cfg.CallTimeout)),
	)
	if err != nil {
		s.log.WarnContext(ctx, "The server's limits stay on a stream", "error", err)
	}
}

// readBody reads a body to its end.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *errs.Error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, errs.New(codes.InvalidArgument, errs.ReasonMalformedJSON, "The body did not arrive whole.").WithCause(err)
	}
	return body, nil
}

// check returns what is wrong with a request's query and body.
func (t *route) check(query string, body []byte, path map[string]string) *errs.Error {
	if refusal := checkPath(path); refusal != nil {
		return refusal
	}
	if refusal := t.checkQuery(query, path); refusal != nil {
		return refusal
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil // an empty request
	}
	message := t.bodyType.New()
	if refusal := decode(body, message.Interface()); refusal != nil {
		return refusal
	}
	if t.body != "" && t.body != "*" {
		if refusal := refuseNull(body); refusal != nil {
			return refusal
		}
	}
	return t.checkNames(message, path)
}

// checkNames refuses a body that names another resource than the URL, which would
// win without a word.
func (t *route) checkNames(body protoreflect.Message, path map[string]string) *errs.Error {
	for name, value := range path {
		inBody := name
		if t.body != "*" {
			var found bool
			if inBody, found = strings.CutPrefix(name, t.body+"."); !found {
				continue
			}
		}
		field := body.Descriptor().Fields().ByName(protoreflect.Name(inBody))
		if field == nil || field.Kind() != protoreflect.StringKind {
			continue
		}
		if said := body.Get(field).String(); said != "" && said != value {
			return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The body names another resource than the URL.").
				WithViolation(name, "It must be as in the URL, or be left out.")
		}
	}
	return nil
}

// checkPath refuses names that no message can carry: protobuf's text is UTF-8.
func checkPath(path map[string]string) *errs.Error {
	for _, name := range slices.Sorted(maps.Keys(path)) {
		if !utf8.ValidString(path[name]) {
			return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The path of the URL is not UTF-8.").
				WithViolation(name, "It must be UTF-8.")
		}
	}
	return nil
}

// checkQuery refuses query parameters that the request does not have, or that its
// path or body says, and those that cannot be read.
func (t *route) checkQuery(query string, path map[string]string) *errs.Error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The query of the URL cannot be read.")
	}
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, ok := fieldPath(t.input.Descriptor(), key)
		if !ok || t.saysElsewhere(name, path) {
			return errs.New(codes.InvalidArgument, errs.ReasonUnknownField,
				"The URL has a query parameter that this method does not have"+quoted(key)+".")
		}
		if len(values[key]) > 1 || seen[name] {
			return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The URL has a query parameter twice.").
				WithViolation(name, "It is there twice.")
		}
		seen[name] = true
		if !utf8.ValidString(values[key][0]) {
			return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "A query parameter is not UTF-8.").
				WithViolation(name, "It must be UTF-8.")
		}
		parser := &runtime.DefaultQueryParser{}
		if err := parser.Parse(t.input.New().Interface(), url.Values{key: values[key]}, utilities.NewDoubleArray(nil)); err != nil {
			return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "A query parameter has a value of the wrong type.").
				WithViolation(name, "It has a value of the wrong type.")
		}
	}
	return nil
}

// updateMask is the field of an update that the body says by what it holds. A mask
// beside it could name what the body has not: `updateMask=enforced` beside a new
// grace period would switch enforcement off.
const updateMask = "update_mask"

// saysElsewhere reports whether the body or the path holds a field, or a field in
// it, or what it is in.
func (t *route) saysElsewhere(name string, path map[string]string) bool {
	overlaps := func(other string) bool {
		return strings.HasPrefix(name+".", other+".") || strings.HasPrefix(other+".", name+".")
	}
	return t.body == "*" || t.body != "" && (overlaps(t.body) || overlaps(updateMask)) ||
		slices.ContainsFunc(slices.Collect(maps.Keys(path)), overlaps)
}

// fieldPath resolves `pageSize` or `policy.enforced` to names of fields.
func fieldPath(message protoreflect.MessageDescriptor, key string) (name string, ok bool) {
	var names []string
	parts := strings.Split(key, ".")
	for i, part := range parts {
		field := fieldOf(message, part)
		if field == nil {
			return "", false
		}
		names = append(names, string(field.Name()))
		if i == len(parts)-1 {
			break
		}
		if message = field.Message(); message == nil || field.IsList() || field.IsMap() {
			return "", false
		}
	}
	return strings.Join(names, "."), true
}
