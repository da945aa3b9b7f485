# Fernamt. `make help` says what there is.

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
LAB ?= data-lab
FUZZTIME ?= 20s

.DEFAULT_GOAL := help
.PHONY: help run build test gen check race fuzz bench

help: ## says what each target does
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

run: build ## builds what is needed and runs the whole suite on loopback; data in ./data-lab (LAB=DIR for another)
	bin/fernamt lab --data $(LAB)

build: ## builds bin/fernamt
	$(GO) build -o bin/fernamt .

test: ## installs what the tests need (as root), then runs every check and every test
	STATICCHECK=$(STATICCHECK) GO=$(GO) sh test/all.sh

gen: ## writes the generated documents: doc/PORTS, CONFIG, COMMANDS, EVENTS, SPECS
	$(GO) run ./test/gen

check: ## the quick checks: gofmt, go vet, staticcheck, the house test
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test ./test

race: ## every test that needs no other program, under the race detector
	$(GO) test -race $$($(GO) list ./... | grep -v /test/interop)

fuzz: ## each fuzz target for FUZZTIME (20s)
	GO=$(GO) FUZZTIME=$(FUZZTIME) sh test/fuzz.sh

bench: ## every benchmark, with allocations
	$(GO) test -run '^$$' -bench . -benchmem $$($(GO) list ./... | grep -v /test)
