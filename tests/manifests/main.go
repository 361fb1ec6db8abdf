// SPDX-License-Identifier: Apache-2.0

// Command manifests renders folders of kustomize and validates each object as the API server does: strict decoding,
// defaults, and the validation of Kubernetes itself. It needs no cluster and no network.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: manifests FOLDER...")
		os.Exit(2)
	}
	failed := false
	for _, folder := range os.Args[1:] {
		failed = !check(folder) || failed
	}
	if failed {
		os.Exit(1)
	}
}

// check prints the objects of a folder, or what is wrong with them.
func check(folder string) bool {
	objects, err := Render(folder)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", folder, err)
		return false
	}
	var names []string
	right := true
	for _, object := range objects {
		name, err := Validate(object)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s: %v\n", folder, name, err)
			right = false
		}
		names = append(names, name)
	}
	fmt.Printf("%s: %s\n", folder, strings.Join(names, ", "))
	return right
}
