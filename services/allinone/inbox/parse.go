package inbox

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
)

// maxDepth is how deep parts may lie within parts.
const maxDepth = 5

// content is what a mail says.
type content struct {
	header textproto.MIMEHeader
	text   string
	html   string
}

// parse reads a mail as far as it can be read: a broken one shows what there is.
func parse(raw []byte) content {
	reader := textproto.NewReader(bufio.NewReader(bytes.NewReader(raw)))
	header, err := reader.ReadMIMEHeader()
	c := content{header: header}
	if err == nil {
		c.add(header, reader.R, 0)
	}
	return c
}

// readHeader reads the header alone.
func readHeader(r io.Reader) textproto.MIMEHeader {
	header, _ := textproto.NewReader(bufio.NewReader(r)).ReadMIMEHeader() // what there is
	return header
}

// add takes the first text and the first HTML of a part and the parts within it.
func (c *content) add(header textproto.MIMEHeader, body io.Reader, depth int) {
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain" // RFC 2045 section 5.2
	}
	switch {
	case strings.HasPrefix(kind, "multipart/") && depth < maxDepth:
		parts := multipart.NewReader(body, parameters["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err != nil {
				return
			}
			c.add(part.Header, part, depth+1)
		}
	case kind == "text/plain" && c.text == "":
		c.text = readText(header, body)
	case kind == "text/html" && c.html == "":
		c.html = readText(header, body)
	}
}

// readText takes every character set for UTF-8, which is what the suite writes.
func readText(header textproto.MIMEHeader, body io.Reader) string {
	switch strings.ToLower(strings.TrimSpace(header.Get("Content-Transfer-Encoding"))) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, _ := io.ReadAll(io.LimitReader(body, maxMail)) // what there is
	return strings.ToValidUTF8(strings.ReplaceAll(string(text), "\r\n", "\n"), "\uFFFD")
}

// decoded reads the encoded words of a header (RFC 2047).
func decoded(value string) string {
	text, err := (&mime.WordDecoder{}).DecodeHeader(value)
	if err != nil {
		text = value
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
