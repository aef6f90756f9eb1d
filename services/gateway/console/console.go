package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// contentPolicy lets the page load its own files and speak to its own origin, and
// nothing else. Pictures in data URLs are QR codes, which the API answers inline.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// prefix is where the files are; the page itself is everywhere.
const prefix = "/console/"

//go:embed static
var static embed.FS

// file is one static file, ready to be served.
type file struct {
	content     []byte
	contentType string
	etag        string
}

// Console serves the page.
type Console struct {
	files    map[string]file
	fallback http.Handler
}

// New reads the files. What is no page and no file goes to the fallback.
func New(fallback http.Handler) (*Console, error) {
	c := &Console{files: map[string]file{}, fallback: fallback}
	err := fs.WalkDir(static, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		c.files[strings.TrimPrefix(name, "static/")] = file{
			content: content, contentType: contentType(name), etag: `"` + hex.EncodeToString(sum[:16]) + `"`,
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	return c, nil
}

// contentType does not ask the machine for what it thinks of an extension.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".html":
		return "text/html; charset=utf-8"
	default:
		return mime.TypeByExtension(ext)
	}
}

// ServeHTTP serves the page at the paths it has pages for, and its files. A person
// who is lost elsewhere gets the page, too, which says so; a program does not.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		c.fallback.ServeHTTP(w, r)
		return
	}
	if name, isFile := strings.CutPrefix(r.URL.Path, prefix); isFile {
		if f, found := c.files[name]; found && name != "index.html" {
			c.serve(w, r, f, http.StatusOK)
			return
		}
	} else if isPage(r.URL.Path) {
		c.serve(w, r, c.files["index.html"], http.StatusOK)
		return
	} else if strings.Contains(r.Header.Get("Accept"), "text/html") {
		c.serve(w, r, c.files["index.html"], http.StatusNotFound)
		return
	}
	c.fallback.ServeHTTP(w, r)
}

// isPage reports whether the page has something to show at a path. The first part
// decides; routes.js knows the rest.
func isPage(at string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(at, "/"), "/")
	return slices.Contains([]string{
		"", "sign-in", "set-up", "forgot-password", "reset-password", "accept-invitation",
		"agents", "manage", "notices", "activity", "profile",
	}, first)
}

func (c *Console) serve(w http.ResponseWriter, r *http.Request, f file, status int) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	// A file is asked for again each time, and answered 304 while it is the same:
	// pages and modules of two versions never meet.
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", f.etag)
	if status == http.StatusOK {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		return
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.content) // the caller is gone, or gets it
	}
}
