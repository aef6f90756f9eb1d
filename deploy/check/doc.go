// Package check holds the tests of what is shipped to run the suite: the image, the
// compose file and the Kubernetes manifests.
//
// The manifests are built as kustomize builds them and decoded strictly into the
// types of the Kubernetes API; the compose file is read by Compose's own library.
// Every environment in them is then handed to the very process it is for, built
// with the very command of the Dockerfile, which says whether it understands it.
//
// It is a module of its own, outside the workspace, so that the libraries of
// Kubernetes and Compose choose no version of the product's (docs/adr/0009). It
// knows of the suite what a deployment knows: programs, variables and files.
package check
