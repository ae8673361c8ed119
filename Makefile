# `make help` lists the targets. Needs GNU make, bash and Go; the tests Rust and a C compiler besides, and on Debian `make test`
# installs the rest as root (scripts/tools.sh).

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Trivy needs the experiment, and without cgo it is built as its own releases are. The same flags everywhere, or the
# build cache is of no use.
export GOEXPERIMENT := jsonv2
export CGO_ENABLED := 0
export GOFLAGS := $(filter-out -trimpath -buildvcs=false,$(GOFLAGS)) -trimpath -buildvcs=false

VERSION ?= $(shell sed -n 's/^version: //p' plugin.yaml)
TRIVY_VERSION := $(shell sed -n 's|^\tgithub.com/aquasecurity/trivy v||p' go.mod)
LDFLAGS := -s -w -X main.version=$(VERSION) -X github.com/aquasecurity/trivy/pkg/version/app.ver=$(TRIVY_VERSION)

FUZZTIME ?= 10s
FUZZ ?= \w+
# make test runs 3000 inputs of the quick ones, and 300 of those that mount or compare whole images: some seconds of each.
QUICKFUZZ := Open|Check|Mutated|MutatedCheck|Image|Parts|TOC|ReadTOC|ParseMeta|Decompress|Zran|XTS|ImageDocuments|BootstrapLayer|Unwrap|Apply|Words
SLOWFUZZ := Accepted|DamagedBootstrap
PLATFORMS := $(shell sed -n 's/.*{os: \([a-z]*\), arch: \([a-z0-9]*\)}.*/\1_\2/p' plugin.yaml)
HOST := $(shell go env GOOS)_$(shell go env GOARCH)
EXE := $(shell go env GOEXE)
SOURCES := $(shell find . -name '*.go' ! -name '*_test.go' ! -path './bin/*' ! -path './dist/*') go.mod go.sum Makefile

# The packages without Trivy, which the race detector builds in a minute.
LIBRARIES := ./rafs ./confined ./ocicrypt ./blob ./nydusimage ./nydusmount ./consistency ./inspect ./internal/testimage ./internal/testregistry

# Trivy is not to leave this machine in the demo.
OFFLINE := --skip-db-update --skip-java-db-update --offline-scan --skip-check-update --skip-version-check --disable-telemetry
DEMO := --cache-dir bin/demo-cache $(OFFLINE) --scanners vuln,secret ./testdata/demo:v6

# $(call step,NAME,COMMAND) runs a command under a name and says how long it took.
step = @scripts/step.sh '$(1)' $(2)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: build
build: bin/trivy-nydus$(EXE) ## bin/trivy-nydus

bin/trivy-nydus$(EXE): $(SOURCES) plugin.yaml
	go build -ldflags '$(LDFLAGS)' -o $@ .

.PHONY: trivy
trivy: bin/trivy$(EXE) ## bin/trivy: the trivy command of the same version, for tests

bin/trivy$(EXE): go.mod go.sum
	go build -ldflags '$(LDFLAGS)' -o $@ github.com/aquasecurity/trivy/cmd/trivy

.PHONY: demo
demo: build bin/demo-cache/db/metadata.json ## scan the image in testdata/, offline, with a small vulnerability database
	bin/trivy-nydus $(DEMO)

.PHONY: demo-trivy
demo-trivy: build trivy bin/demo-cache/db/metadata.json bin/plugin/plugin.yaml ## the same through trivy with the plugin installed, in bin/home
	XDG_DATA_HOME='$(CURDIR)/bin/home' bin/trivy --quiet plugin install ./bin/plugin
	XDG_DATA_HOME='$(CURDIR)/bin/home' bin/trivy nydus $(DEMO)

bin/demo-cache/db/metadata.json: $(wildcard testdata/db/*.yaml internal/fixturedb/*.go)
	go run ./internal/fixturedb/cmd bin/demo-cache testdata/db/*.yaml

.PHONY: install
install: bin/plugin/plugin.yaml ## build and put the plugin into your Trivy
	@command -v trivy >/dev/null || { echo 'install: trivy is not on the PATH; bin/trivy-nydus works alone' >&2; exit 1; }
	trivy plugin install ./bin/plugin

# What `trivy plugin install` takes: a folder with plugin.yaml and the binary.
bin/plugin/plugin.yaml: bin/trivy-nydus$(EXE) plugin.yaml
	scripts/plugin.sh $(HOST) '$(VERSION)' $< bin/plugin

.PHONY: archive
archive: dist/trivy-nydus_$(VERSION)_$(HOST).tar.gz ## the archive for this platform, in dist/

.PHONY: print-archive
print-archive:
	@echo dist/trivy-nydus_$(VERSION)_$(HOST).tar.gz

.PHONY: dist
dist: $(PLATFORMS:%=dist/trivy-nydus_$(VERSION)_%.tar.gz) ## archives that trivy plugin install takes, for all platforms, and checksums
	@cat dist/*_$(VERSION)_*.sha256

dist/trivy-nydus_$(VERSION)_$(HOST).tar.gz: bin/plugin/plugin.yaml LICENSE
	scripts/pack.sh bin/plugin $@

dist/trivy-nydus_$(VERSION)_%.tar.gz: $(SOURCES) plugin.yaml LICENSE
	platform=$*; export GOOS=$${platform%_*} GOARCH=$${platform#*_}; \
	go build -ldflags '$(LDFLAGS)' -o dist/$*/ . ; \
	scripts/plugin.sh $* '$(VERSION)' dist/$*/trivy-plugin-nydus$$(go env GOEXE) dist/$*/plugin
	scripts/pack.sh dist/$*/plugin $@
	rm -r dist/$*

.PHONY: reproduce
reproduce: archive ## build the archive again elsewhere and compare: the bytes must be the same
	scripts/reproduce.sh dist/trivy-nydus_$(VERSION)_$(HOST).tar.gz

# The database of vulnerabilities is on the network: where it cannot be reached, that is said. GOVULNDB names another, such as
# a copy in a folder (file:///...).
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
GOVULNDB ?= https://vuln.go.dev
.PHONY: audit
audit: ## compare the modules with go.sum, and look for known vulnerabilities in what the binary calls
	go mod verify
	@if curl -sSf -m 10 -o /dev/null '$(GOVULNDB)/index/db.json' 2>/dev/null; then go run $(GOVULNCHECK) -db '$(GOVULNDB)' . ; \
	else echo 'audit: govulncheck is skipped: $(GOVULNDB) cannot be reached' ; fi

.PHONY: tools
tools: ## install what the tests need and this machine lacks
	scripts/tools.sh

.PHONY: lint
lint: ## gofmt and go vet
	@files=$$(gofmt -l $$(find . -name '*.go' ! -path './bin/*' ! -path './dist/*')); \
	if [[ -n $$files ]]; then printf 'not gofmt-ed:\n%s\n' "$$files" >&2; exit 1; fi
	go vet ./...

.PHONY: test
test: ## install the tools, then run everything: 15 to 30 minutes, Trivy and the tools built anew among them
	$(call step,tools,scripts/tools.sh)
	$(call step,build,$(MAKE) --no-print-directory build trivy archive)
	$(call step,reproduce,$(MAKE) --no-print-directory reproduce)
	$(call step,audit,$(MAKE) --no-print-directory audit)
	$(call step,lint,$(MAKE) --no-print-directory lint)
	$(call step,tests,go test -count=1 -timeout 45m ./...)
	$(call step,race detector,$(MAKE) --no-print-directory race-libraries)
	$(call step,fuzz,$(MAKE) --no-print-directory fuzz FUZZTIME=3000x FUZZ='$(QUICKFUZZ)')
	$(call step,fuzz images,$(MAKE) --no-print-directory fuzz FUZZTIME=300x FUZZ='$(SLOWFUZZ)')

.PHONY: race
race: tools build trivy archive ## all tests, and the command they run, under the race detector (needs a C compiler; builds Trivy once more)
	CGO_ENABLED=1 go build -race -ldflags '$(LDFLAGS)' -o bin/race/trivy-nydus$(EXE) .
	RACE=1 CGO_ENABLED=1 go test -race -count=1 -timeout 90m ./...

.PHONY: race-libraries
race-libraries: ## those of the packages without Trivy, but for the longest
	CGO_ENABLED=1 go test -race -short -count=1 -timeout 20m $(LIBRARIES)

.PHONY: fuzz
fuzz: ## run each Fuzz target for FUZZTIME
	@grep -Eor --include='*_test.go' '^func Fuzz($(FUZZ))\b' . | while IFS=: read -r file target; do \
		(set -x; go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname "$$file")"); \
	done

# SOAK are further flags for the tests, such as "-soak-seeds 200" or "-soak-faults 404,drip".
.PHONY: soak
soak: tools build trivy archive ## let a registry fail at every step of scans and checks, in every way, kill scans, and have images reach all bounds: takes an hour
	SOAK=1 go test -v -count=1 -timeout 0 -run '^TestSoak' ./internal/e2e $(SOAK)

.PHONY: fuzz-coverage
fuzz-coverage: ## what the seeds and all that make fuzz found so far reach of rafs and blob
	scripts/fuzz-coverage.sh

# BENCH are further flags for internal/bench, such as "-images wordpress -runs 5". What was measured before stays beside it.
ifdef QUICK
BENCH_OUT ?= $(CURDIR)/bin/bench
BENCH_FLAGS := -images debian -links loopback -scanners vuln -states cold -runs 1
BENCH_PACKAGES := ./rafs ./blob ./artifact
else
BENCH_OUT ?= $(CURDIR)/docs
BENCH_PACKAGES := ./rafs ./blob ./artifact ./consistency ./inspect
endif

.PHONY: bench
bench: tools build trivy ## measure, beside trivy image, into docs/: takes hours; QUICK=1: minutes, into bin/bench
	BENCH=1 go test -timeout 1h -run '^TestMemory$$' -bench . -benchmem $(BENCH_PACKAGES)
	go test -v -count=1 -timeout 0 -run '^TestBench$$' ./internal/bench -out '$(BENCH_OUT)' $(BENCH_FLAGS) $(BENCH)
	$(if $(QUICK),,go test -count=1 -run '^TestCommitted$$' ./internal/bench -update)

.PHONY: testdata
testdata: tools ## make testdata/demo anew, with the packages that Debian has today
	TRIVY_NYDUS_WRITE_TESTDATA=1 go test -count=1 -v -run '^TestWriteDemo$$' .

.PHONY: readme
readme: ## make the outputs in README.md anew
	go test -count=1 -run '^TestReadme$$' . -update

# The mechanical part of an update: go.mod, from the new Trivy's own, and what names the version. Then make test.
.PHONY: bump-trivy
bump-trivy: ## build in another Trivy: make bump-trivy TO=0.75.0
	scripts/bump-trivy.sh '$(TO)'

.PHONY: clean
clean: ## remove bin/ and dist/
	rm -rf bin dist
