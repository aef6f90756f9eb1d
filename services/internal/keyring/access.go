package keyring

import (
	"io/fs"
	"slices"
)

// owner is whom a file belongs to.
type owner struct{ user, group int }

// process is whom a process runs as.
type process struct {
	user   int
	groups []int
}

const root = 0

// handedToGroup reports whether root lets a process read a file through its
// group, and nobody else. That is what a Kubernetes Secret looks like to a
// process that is not root: its files belong to root, and the pod's fsGroup may
// read them (mode 0440). PostgreSQL takes the key of its certificate in the same
// two forms.
//
// A file that belongs to the process itself needs no group, so a group that may
// read it is a slip. A group that the process is not in is somebody else's.
func handedToGroup(mode fs.FileMode, file owner, reader process) bool {
	return mode&^0o640 == 0 &&
		file.user == root && reader.user != root &&
		slices.Contains(reader.groups, file.group)
}
