package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
)

const (
	// exportPage is how many events are read at a time.
	exportPage = 500
	// chunkSize is when a part of the file is sent.
	chunkSize = 256 << 10
	// verifyInterval is how often an exporting caller's session is verified again.
	verifyInterval = 5 * time.Second
)

// file is a form of file in the making.
type file interface {
	contentType() string
	// begin writes what comes before the first event.
	begin(b *bytes.Buffer) error
	add(b *bytes.Buffer, e *auditv1.AuditEvent) error
}

func newFile(format auditv1.ExportAuditEventsRequest_Format) file {
	if format == auditv1.ExportAuditEventsRequest_CSV {
		return csvFile{}
	}
	return jsonFile{}
}

// ExportAuditEvents implements AuditServiceServer.
func (s *Server) ExportAuditEvents(
	req *auditv1.ExportAuditEventsRequest, stream grpc.ServerStreamingServer[auditv1.ExportAuditEventsResponse],
) error {
	ctx := stream.Context()
	account, err := s.accountOf(ctx, req.GetParent())
	if err != nil {
		return err
	}
	filter, err := parseFilter(req.GetFilter())
	if err != nil {
		return err
	}
	w := &writer{file: newFile(req.GetFormat()), send: stream.Send}
	if err := w.begin(&w.buffer); err != nil {
		return err
	}
	if err := s.export(ctx, account, filter, w); err != nil {
		return err
	}
	return w.flush()
}

func (s *Server) export(ctx context.Context, account string, filter *auditv1.AuditFilter, w *writer) error {
	var after *place
	verified := s.deps.Now()
	for {
		if s.deps.Now().Sub(verified) >= verifyInterval {
			if err := authz.VerifyAgain(ctx, s.deps.VerifySession); err != nil {
				return err
			}
			verified = s.deps.Now()
		}
		events, more, err := s.page(ctx, account, filter, after, exportPage)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := w.write(e); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		last := placeOf(events[len(events)-1])
		after = &last
	}
}

// writer sends a file in parts of whole lines.
type writer struct {
	file
	buffer bytes.Buffer
	send   func(*auditv1.ExportAuditEventsResponse) error
}

func (w *writer) write(e *auditv1.AuditEvent) error {
	if err := w.add(&w.buffer, e); err != nil {
		return err
	}
	if w.buffer.Len() < chunkSize {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if w.buffer.Len() == 0 {
		return nil
	}
	err := w.send(&auditv1.ExportAuditEventsResponse{ContentType: w.contentType(), Data: bytes.Clone(w.buffer.Bytes())})
	w.buffer.Reset()
	return err
}

// jsonFile has an event on each line.
type jsonFile struct{}

func (jsonFile) contentType() string { return "application/jsonl; charset=utf-8" }

func (jsonFile) begin(*bytes.Buffer) error { return nil }

func (jsonFile) add(b *bytes.Buffer, e *auditv1.AuditEvent) error {
	// As in answers: what is empty is there too.
	line, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(e)
	if err != nil {
		return err
	}
	if err := json.Compact(b, line); err != nil { // protojson puts spaces where it likes
		return err
	}
	return b.WriteByte('\n')
}

// csvFile is for spreadsheets.
type csvFile struct{}

func (csvFile) contentType() string { return "text/csv; charset=utf-8; header=present" }

func (csvFile) begin(b *bytes.Buffer) error {
	return writeLine(b, []string{
		"eventTime", "actorKind", "actorName", "actorDisplayName", "action", "subject", "result", "errorReason",
		"clientAddress", "requestId", "details", "service", "sequence", "previousHash", "hash",
	})
}

func (csvFile) add(b *bytes.Buffer, e *auditv1.AuditEvent) error {
	details, err := json.Marshal(e.GetDetails()) // sorted by key
	if err != nil {
		return err
	}
	cells := []string{
		e.GetEventTime().AsTime().Format(time.RFC3339Nano), e.GetActor().GetKind().String(), e.GetActor().GetName(),
		e.GetActor().GetDisplayName(), e.GetAction(), e.GetSubject(), e.GetResult().String(), e.GetErrorReason(),
		e.GetClientAddress(), e.GetRequestId(), string(details), e.GetService(), strconv.FormatInt(e.GetSequence(), 10),
		e.GetPreviousHash(), e.GetHash(),
	}
	for i, cell := range cells {
		cells[i] = harmless(cell)
	}
	return writeLine(b, cells)
}

// harmless keeps a spreadsheet from taking a cell for a formula, which could send
// the sheet to somebody: names are what people choose (OWASP, CSV Injection). In
// some languages a semicolon, too, begins a cell.
func harmless(cell string) string {
	parts := strings.SplitAfter(cell, ";")
	for i, part := range parts {
		begin := strings.TrimLeftFunc(part, func(r rune) bool { return unicode.IsSpace(r) || r == '"' })
		if begin != "" && strings.ContainsRune("=+-@|%＝＋－＠", []rune(begin)[0]) {
			parts[i] = "'" + part
		}
	}
	return strings.Join(parts, "")
}

func writeLine(b *bytes.Buffer, cells []string) error {
	w := csv.NewWriter(b)
	w.UseCRLF = true
	if err := w.Write(cells); err != nil {
		return err
	}
	w.Flush()
	return w.Error()
}
