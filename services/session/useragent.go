package session

import "strings"

// phrases are what nearly all User-Agent headers are made of. A million of them
// are kept in memory, so each phrase is stored as one control character. The order
// is part of the record's format: add at the end only.
func phrases() []string {
	return []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/",
		"Mozilla/5.0 (iPhone; CPU iPhone OS ",
		"Mozilla/5.0 (iPad; CPU OS ",
		" like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:",
		"Mozilla/5.0 (X11; Linux x86_64; rv:",
		") Gecko/20100101 Firefox/",
		".0.0.0 Safari/537.36",
		".0.0.0 Mobile Safari/537.36",
		" Mobile/15E148 Safari/604.1",
		" Safari/605.1.15",
		"Mozilla/5.0 (",
		"AppleWebKit/",
		" (KHTML, like Gecko) ",
		" Edg/",
		" OPR/",
		"Electron/",
		"okhttp/",
		"CFNetwork/",
		"Darwin/",
	}
}

// packer shortens User-Agent headers.
type packer struct {
	pack, unpack *strings.Replacer
}

func newPacker() packer {
	var pack, unpack []string
	for i, phrase := range phrases() {
		code := string(rune(i + 1))
		pack = append(pack, phrase, code)
		unpack = append(unpack, code, phrase)
	}
	return packer{pack: strings.NewReplacer(pack...), unpack: strings.NewReplacer(unpack...)}
}

// cleanText cuts what a client says of itself to limit characters and removes what
// is not text, which also keeps the packer's codes unambiguous.
func cleanText(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	n := 0
	for i := range text {
		if n == limit {
			return text[:i]
		}
		n++
	}
	return text
}
