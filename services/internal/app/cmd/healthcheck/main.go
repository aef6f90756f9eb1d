// Command healthcheck asks the process in its container whether it is ready, and
// exits with 0 when it is. It is for container engines that run a program to find
// out, in an image that has no other; Kubernetes asks by itself.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/twofold-auth/twofold/services/internal/app"
)

// limit is longer than what a process takes to find out (2 s).
const limit = 2500 * time.Millisecond

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	err := check(ctx, os.Environ())
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "healthcheck:", err)
		os.Exit(1)
	}
}

// check reads the process's own configuration, as it finds itself in the same
// environment.
func check(ctx context.Context, environ []string) error {
	config, err := app.LoadConfig(environ, "TWOFOLD_METRICS_ADDR")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(config.MetricsAddr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // what listens everywhere listens here
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	// No proxy that the environment may name, and no redirect, stands between.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the process answers %s", response.Status)
	}
	return nil
}
