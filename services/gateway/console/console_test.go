package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/gateway/console"
)

// files are the static files, by their path.
func files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, fs.WalkDir(os.DirFS("static"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join("static", name))
		found[name] = string(content)
		return err
	}))
	require.Greater(t, len(found), 30)
	return found
}

// Everything together is small, names no other host, and has nothing that the
// content policy would refuse or that parses HTML.
func TestFiles_areSmallAndStrict(t *testing.T) {
	total := 0
	namespace := "http://www.w3.org/2000/svg"
	forbidden := regexp.MustCompile(`https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:|style="|<style|\son[a-z]+="`)
	for name, content := range files(t) {
		total += len(content)
		require.Empty(t, forbidden.FindAllString(strings.ReplaceAll(content, namespace, ""), -1), name)
		require.Less(t, strings.Count(content, "\n"), 500, name)
	}
	require.Less(t, total, 150_000)
	require.NotRegexp(t, `<script>|<script [^>]*>[^<]`, files(t)["index.html"])
}

// Modules import what is there, and every page that a route loads is there.
func TestFiles_importWhatIsThere(t *testing.T) {
	all := files(t)
	imports := regexp.MustCompile(`(?:from |import\()'(\.[^']+)'`)
	for name, content := range all {
		for _, found := range imports.FindAllStringSubmatch(content, -1) {
			target := filepath.ToSlash(filepath.Join(filepath.Dir(name), found[1]))
			require.Contains(t, all, target, "imported by %s", name)
		}
	}
}

// The first part of each route in routes.js is a page to the server as well, so
// that a link from a mail finds it.
func TestServe_knowsTheRoutes(t *testing.T) {
	fallback := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	page, err := console.New(fallback)
	require.NoError(t, err)
	ask := func(method, path, accept, etag string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		r.Header.Set("Accept", accept)
		r.Header.Set("If-None-Match", etag)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		return w
	}
	routes := regexp.MustCompile(`path: '([^']+)'`).FindAllStringSubmatch(files(t)["routes.js"], -1)
	require.NotEmpty(t, routes)
	for _, route := range routes {
		r := ask(http.MethodGet, strings.ReplaceAll(route[1], ":id", "x"), "*/*", "")
		require.Equal(t, http.StatusOK, r.Code, route[1])
		require.Equal(t, "text/html; charset=utf-8", r.Header().Get("Content-Type"))
	}

	require.Equal(t, http.StatusTeapot, ask(http.MethodGet, "/nowhere", "application/json", "").Code)
	require.Equal(t, http.StatusNotFound, ask(http.MethodGet, "/nowhere", "text/html,*/*", "").Code)
	require.Equal(t, http.StatusTeapot, ask(http.MethodPost, "/sign-in", "text/html", "").Code)
	require.Equal(t, http.StatusTeapot, ask(http.MethodGet, "/console/../console.go", "*/*", "").Code)

	script := ask(http.MethodGet, "/console/main.js", "*/*", "")
	require.Equal(t, "text/javascript; charset=utf-8", script.Header().Get("Content-Type"))
	require.Equal(t, "nosniff", script.Header().Get("X-Content-Type-Options"))
	require.Equal(t,
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		script.Header().Get("Content-Security-Policy"))
	require.Equal(t, http.StatusNotModified, ask(http.MethodGet, "/console/main.js", "*/*", script.Header().Get("Etag")).Code)
}
