package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
)

// exports is a client of the audit log that waits for the beginning of a file.
type exports struct{ auditv1.AuditServiceClient }

// ExportAuditEvents implements AuditServiceClient.
func (c exports) ExportAuditEvents(
	ctx context.Context, req *auditv1.ExportAuditEventsRequest, options ...grpc.CallOption,
) (grpc.ServerStreamingClient[auditv1.ExportAuditEventsResponse], error) {
	stream, err := begin(c.AuditServiceClient.ExportAuditEvents(ctx, req, options...))
	if err != nil {
		return nil, err
	}
	return &download{stream}, nil
}

// download is a file that has begun.
type download struct {
	grpc.ServerStreamingClient[auditv1.ExportAuditEventsResponse]
}

// Recv returns the next part. What ends the file before its end is marked.
func (d *download) Recv() (*auditv1.ExportAuditEventsResponse, error) {
	part, err := d.ServerStreamingClient.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &cutError{err}
	}
	return part, err
}

// cutError is what ended a file before its end.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

// nameFile lets browsers keep a file rather than show it.
func nameFile(_ context.Context, w http.ResponseWriter, resp proto.Message) error {
	part, ok := resp.(*auditv1.ExportAuditEventsResponse)
	if !ok {
		return nil
	}
	name := "audit-events.jsonl"
	if strings.HasPrefix(part.GetContentType(), "text/csv") {
		name = "audit-events.csv"
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	return nil
}

// partOfFile sends a part of a file as it is, where other streams have JSON. Each
// part ends with a line, and grpc-gateway adds the last line feed by itself.
func partOfFile(_ context.Context, resp proto.Message) (any, error) {
	part, ok := resp.(*auditv1.ExportAuditEventsResponse)
	if !ok {
		return resp, nil
	}
	return &httpbody.HttpBody{
		ContentType: part.GetContentType(), Data: bytes.TrimSuffix(part.GetData(), []byte("\n")),
	}, nil
}

// jsonOrFile is JSON, but for files, which say what they are.
type jsonOrFile struct{ *runtime.JSONPb }

// ContentType implements runtime.Marshaler.
func (m jsonOrFile) ContentType(v any) string {
	if file, ok := v.(*httpbody.HttpBody); ok {
		return file.GetContentType()
	}
	return m.JSONPb.ContentType(v)
}
