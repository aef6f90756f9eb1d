//go:build unix

package keyring

import (
	"io/fs"
	"os"
	"syscall"
)

// ownerOf returns whom an open file belongs to; nobody when that is unknown.
func ownerOf(info fs.FileInfo) owner {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{-1, -1}
	}
	return owner{int(stat.Uid), int(stat.Gid)}
}

// self returns whom this process runs as.
func self() process {
	groups, err := os.Getgroups()
	if err != nil {
		groups = nil // its own group is enough to go by
	}
	return process{os.Geteuid(), append(groups, os.Getegid())}
}
