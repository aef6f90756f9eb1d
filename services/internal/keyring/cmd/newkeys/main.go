// Command newkeys makes a keys file with one fresh key, for TWOFOLD_KEYS_FILE, and
// changes one, step by step as docs/keys.md says:
//
//	newkeys FILE                makes it
//	newkeys list FILE           names its keys, the primary first
//	newkeys add FILE [NAME]     adds a fresh key that is not primary yet
//	newkeys promote FILE NAME   makes a key the primary one
//	newkeys remove FILE NAME    removes a key that is not primary
//
// A file that is there already is not made again, which is no failure: what was
// sealed under its keys could not be read without them. No secret is printed.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

var errUsage = errors.New("usage: newkeys FILE | list FILE | add FILE [NAME] | promote FILE NAME | remove FILE NAME")

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "newkeys:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	switch {
	case len(args) == 1:
		return generate(args[0], stderr)
	case len(args) == 2 && args[0] == "list":
		return list(args[1], stdout)
	case len(args) == 2 && args[0] == "add":
		return add(args[1], "", stdout)
	case len(args) == 3 && args[0] == "add":
		return add(args[1], args[2], stdout)
	case len(args) == 3 && args[0] == "promote":
		if err := keyring.Promote(args[1], args[2]); err != nil {
			return err
		}
		return list(args[1], stdout)
	case len(args) == 3 && args[0] == "remove":
		if err := keyring.Remove(args[1], args[2]); err != nil {
			return err
		}
		return list(args[1], stdout)
	}
	return errUsage
}

func generate(path string, stderr io.Writer) error {
	err := keyring.Generate(path)
	if errors.Is(err, fs.ErrExist) {
		_, _ = fmt.Fprintf(stderr, "newkeys: %s is there already\n", path)
		return nil
	}
	return err
}

func add(path, name string, stdout io.Writer) error {
	name, err := keyring.Add(path, name)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "added: %s\n", name); err != nil {
		return err
	}
	return list(path, stdout)
}

func list(path string, stdout io.Writer) error {
	keys, err := keyring.Load(path)
	if err != nil {
		return err
	}
	others := "none"
	if names := keys.Names()[1:]; len(names) > 0 {
		others = strings.Join(names, ", ")
	}
	_, err = fmt.Fprintf(stdout, "primary: %s\nothers: %s\n", keys.Primary(), others)
	return err
}
