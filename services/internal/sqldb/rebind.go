package sqldb

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// maxRebound bounds the cache of rebound statements. Statements are constants
// but for IN lists, so a service has far fewer; a caller that builds statements
// without end must not fill the memory.
const maxRebound = 2048

// rebinder turns `?` into `$1`, `$2`, … and remembers the result.
type rebinder struct {
	cache sync.Map // string to string
	size  atomic.Int64
}

func (r *rebinder) rebind(query string) string {
	if bound, ok := r.cache.Load(query); ok {
		return bound.(string) //nolint:forcetypeassert // only strings are stored
	}
	bound := rebind(query)
	if r.size.Load() < maxRebound {
		if _, loaded := r.cache.LoadOrStore(query, bound); !loaded {
			r.size.Add(1)
		}
	}
	return bound
}

// rebind numbers the placeholders of a statement and leaves alone every `?` in a
// string, a quoted identifier, a dollar-quoted string or a comment.
func rebind(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var out strings.Builder
	out.Grow(len(query) + 16)
	for i, n := 0, 0; i < len(query); {
		if end := opaqueEnd(query, i); end > i {
			out.WriteString(query[i:end])
			i = end
			continue
		}
		if query[i] == '?' {
			n++
			out.WriteByte('$')
			out.WriteString(strconv.Itoa(n))
		} else {
			out.WriteByte(query[i])
		}
		i++
	}
	return out.String()
}

// opaqueEnd is the end of the quoted or commented text that begins at i, or i
// when none does. Unclosed text reaches to the end of the statement: the
// database will say what is wrong with it.
func opaqueEnd(query string, i int) int {
	rest := query[i:]
	switch {
	case rest[0] == '\'' || rest[0] == '"':
		// A doubled quote inside reads as two texts side by side, which comes
		// to the same.
		return closedBy(query, i+1, rest[:1])
	case strings.HasPrefix(rest, "--"):
		return closedBy(query, i+2, "\n")
	case strings.HasPrefix(rest, "/*"):
		return closedBy(query, i+2, "*/")
	case rest[0] == '$':
		if tag := dollarTag(rest); tag != "" {
			return closedBy(query, i+len(tag), tag)
		}
	}
	return i
}

func closedBy(query string, from int, end string) int {
	at := strings.Index(query[from:], end)
	if at < 0 {
		return len(query)
	}
	return from + at + len(end)
}

// dollarTag is the `$tag$` that rest begins with, or empty.
func dollarTag(rest string) string {
	for i := 1; i < len(rest); i++ {
		c := rest[i]
		switch {
		case c == '$':
			return rest[:i+1]
		case c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', i > 1 && c >= '0' && c <= '9':
		default:
			return ""
		}
	}
	return ""
}
