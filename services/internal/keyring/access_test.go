package keyring

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHandedToGroup(t *testing.T) {
	pod := process{user: 65532, groups: []int{65532, 2000}}
	for name, c := range map[string]struct {
		mode   fs.FileMode
		file   owner
		reader process
		want   bool
	}{
		"a secret of Kubernetes":          {0o440, owner{root, 65532}, pod, true},
		"by a supplementary group":        {0o440, owner{root, 2000}, pod, true},
		"root may write it":               {0o640, owner{root, 65532}, pod, true},
		"readable by the world":           {0o444, owner{root, 65532}, pod, false},
		"the group may write it":          {0o460, owner{root, 65532}, pod, false},
		"a program":                       {0o550, owner{root, 65532}, pod, false},
		"usable by others without a read": {0o441, owner{root, 65532}, pod, false},
		"somebody else's group":           {0o440, owner{root, 3000}, pod, false},
		"the process's own file":          {0o440, owner{65532, 65532}, pod, false},
		"somebody else's file":            {0o440, owner{1000, 65532}, pod, false},
		"a process that is root":          {0o440, owner{root, root}, process{user: root, groups: []int{root}}, false},
		"nobody knows whose":              {0o440, owner{-1, -1}, process{user: -1}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, handedToGroup(c.mode, c.file, c.reader)) })
	}
}
