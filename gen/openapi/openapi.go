// Package openapi holds the description of the REST interface that is
// generated from the protos beside the Go code.
package openapi

import _ "embed"

// JSON is the OpenAPI 2.0 description of every REST route.
//
//go:embed twofold.swagger.json
var JSON []byte
