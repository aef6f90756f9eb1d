# One shell per recipe, and every failure in it ends it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules

# The tools are built once for each state of their module.
TOOLS := bin/.tools-$(shell cat tools/go.mod tools/go.sum | git hash-object --stdin)

# The tests of this many packages run at once, each beside its own servers.
TEST_PARALLEL ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
TEST_FLAGS ?=

##@ Use

.PHONY: help
help: ## show this
	@awk 'BEGIN {FS = ":.*## "}
		/^##@ / {printf "\n%s\n", substr($$0, 5)}
		/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: ## start the whole suite in one process on loopback; needs nothing but Go
	@go build -o bin/allinone ./services/allinone/cmd/allinone
	exec bin/allinone

.PHONY: demo
demo: ## play the story against a fresh suite and print each step
	@go build -o bin/demo ./services/allinone/cmd/demo
	exec bin/demo

##@ Develop

.PHONY: all
all: build lint test ## build, lint and test

.PHONY: build
build: ## compile everything
	@go build work

.PHONY: test
test: ## install what the tests need, then run all of them with the race detector
	@scripts/install-test-deps
	TWOFOLD_TEST_STRICT=1 go test -race -timeout=40m -p $(TEST_PARALLEL) $(TEST_FLAGS) work
	GOWORK=off go -C deploy test ./...

.PHONY: test-short
test-short: ## run the quick tests with what is installed
	@scripts/install-test-deps --list
	go test -short -timeout=5m -p $(TEST_PARALLEL) $(TEST_FLAGS) work

.PHONY: fmt
fmt: tools ## format the Go code
	@bin/golangci-lint fmt services/...

.PHONY: lint
lint: tools ## format check, golangci-lint and buf lint
	@scripts/third-party-protos
	bin/golangci-lint run --timeout=15m $$(go list -f '{{.Dir}}/...' -m)
	bin/buf lint

.PHONY: generate
generate: tools ## generate gen/ from proto/
	@scripts/generate

.PHONY: tidy
tidy: ## tidy every module
	@for module in gen services tools deploy; do GOWORK=off go -C "$$module" mod tidy; done

.PHONY: tools
tools: $(TOOLS) ## build the pinned tools into bin/

$(TOOLS):
	@echo "building the tools pinned in tools/go.mod; the first time takes minutes"
	mkdir -p bin
	GOWORK=off GOBIN="$$PWD/bin" go -C tools install tool
	rm -f bin/.tools-*
	touch $@

.PHONY: clean
clean: ## remove what the other targets built
	@rm -rf bin .build

##@ Check

.PHONY: check
check: lint check-breaking check-generate check-tidy check-imports check-links ## everything but the tests
	@for module in gen services; do GOWORK=off go -C "$$module" build ./...; done
	echo "all checks passed"

.PHONY: check-breaking
check-breaking: tools ## no change to proto/ that breaks clients
	@scripts/check-breaking

.PHONY: check-generate
check-generate: tools ## gen/ is what proto/ generates
	@scripts/generate
	scripts/require-clean gen "run 'make generate' and commit gen/"

.PHONY: check-tidy
check-tidy: ## the modules are tidy
	@for module in gen services tools deploy; do GOWORK=off go -C "$$module" mod tidy -diff; done

.PHONY: check-imports
check-imports: ## no service imports another, none carries an embedded server
	@scripts/check-imports

.PHONY: check-links
check-links: ## the links between the pages lead somewhere
	@scripts/check-links
