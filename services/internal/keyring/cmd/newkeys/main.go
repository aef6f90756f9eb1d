// Command newkeys makes a keys file with one fresh key, for TWOFOLD_KEYS_FILE:
//
//	newkeys FILE
//
// A file that is there already is left alone, which is no failure: what was sealed
// under its keys could not be read without them.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "newkeys:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: newkeys FILE")
	}
	err := keyring.Generate(args[0])
	if errors.Is(err, fs.ErrExist) {
		_, _ = fmt.Fprintf(stderr, "newkeys: %s is there already\n", args[0])
		return nil
	}
	return err
}
