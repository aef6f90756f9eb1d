package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files returns a source that reads PEM files, once now, so that a mistake stops
// the process at its start, and again whenever one of them has changed. While
// the files do not fit together, as in the middle of a rotation, the material
// read last stays in use.
func Files(certFile, keyFile, caFile string) (Source, error) {
	f := &files{paths: [3]string{certFile, keyFile, caFile}}
	stamp, err := f.stat()
	if err != nil {
		return nil, err
	}
	if f.material, err = f.read(); err != nil {
		return nil, err
	}
	f.stamp = stamp
	return f.source, nil
}

type files struct {
	paths [3]string // certificate, key, authority

	mu       sync.Mutex
	stamp    [3]fileStamp
	material *Material
}

// fileStamp tells whether a file is still the one that was read.
type fileStamp struct {
	modified time.Time
	size     int64
}

func (f *files) source() (*Material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamp, err := f.stat()
	if err != nil || stamp == f.stamp {
		return f.material, nil // a file that is gone for a moment is a rotation under way
	}
	if material, err := f.read(); err == nil {
		f.material, f.stamp = material, stamp
	}
	return f.material, nil
}

func (f *files) stat() (stamp [3]fileStamp, err error) {
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			return stamp, fmt.Errorf("mtls: %w", err)
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamp, nil
}

func (f *files) read() (*Material, error) {
	cert, err := tls.LoadX509KeyPair(f.paths[0], f.paths[1])
	if err != nil {
		return nil, fmt.Errorf("mtls: read %s and %s: %w", f.paths[0], f.paths[1], err)
	}
	if _, err := Identity(cert.Leaf); err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, f.paths[0])
	}
	pem, err := os.ReadFile(f.paths[2])
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("mtls: no certificate in %s", f.paths[2])
	}
	return &Material{Certificate: cert, Roots: roots}, nil
}
