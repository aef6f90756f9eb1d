package client

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Reason returns why a call was refused or failed, such as "SESSION_REVOKED": the
// reason in the google.rpc.ErrorInfo that every error of the suite carries.
// Decide by it and by the status code, never by the message. It is empty for nil
// and for errors that no service of the suite sent, such as a lost connection.
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "twofold" {
			return info.GetReason()
		}
	}
	return ""
}
