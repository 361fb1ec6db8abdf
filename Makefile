# SPDX-License-Identifier: Apache-2.0
# The commands of developers and CI. `make lab` and `make test` need a Rust toolchain, a C linker and make.

CARGO ?= cargo
LAB ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)
MDBOOK := 0.5.4
CYCLONEDX := 0.5.9
# Tests make network namespaces: an ordinary user may do that as root of a user namespace. `cargo test --no-run` builds this program.
AS_ROOT := $(TARGET)/debug/lab exec

.PHONY: lab lab-full chaos test lint examples interop bench bench-twin image pictures docs public-api sbom

# Not optimized: a first look must not wait for that.
lab: ## Run the whole data path in namespaces: real mTLS, real traffic. LAB="--json --keep" passes arguments on.
	@.ci/require rust cc namespaces
	$(CARGO) build --locked --bins
	$(TARGET)/debug/lab $(LAB)

lab-full: ## The same, then everything that can go wrong, one after the other. LAB="--skip lb-hangs" leaves faults out.
	@.ci/require rust cc namespaces
	$(CARGO) build --release --locked --bins
	$(TARGET)/release/lab --full $(LAB)

chaos: ## Faults that overlap, in twenty random sequences. LAB="--seed 21" goes through others.
	@.ci/require rust cc namespaces
	$(CARGO) build --release --locked --bins
	$(TARGET)/release/lab --chaos 20 $(LAB)

test: ## Run every test that needs nothing but this machine.
	@.ci/require rust cc namespaces iproute2
	$(CARGO) test --locked --no-run
	$(AS_ROOT) $(CARGO) test --locked

# The last three are not among `--all-targets`: they run by their name only.
lint: ## Format, clippy and rustdoc, all warnings as errors.
	@.ci/require rust cc
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --package meridio-proxy --test interop -- -D warnings
	$(CARGO) clippy --locked --package meridio-lab --test through_go -- -D warnings
	$(CARGO) clippy --locked --package meridio-lab --bench twin -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# Not those in folders: they end by a signal, and a test of the lab runs them.
examples: ## Run every example; each asserts what it shows.
	@.ci/require rust cc
	@set -e; for example in examples/*.rs; do \
	  name=$$(basename $$example .rs); echo "== $$name"; $(CARGO) run --quiet --locked --example $$name; done

interop: ## Prove the wire, then the whole data path, against Go's NSM sdk.
	@.ci/require rust cc go namespaces
	$(MAKE) -C tests/interop build vet
	$(CARGO) test --locked --no-run --test interop --test through_go
	INTEROP_BIN=$(CURDIR)/tests/interop/bin $(AS_ROOT) $(CARGO) test --locked --test interop --test through_go
	$(CARGO) build --release --locked --bins
	$(TARGET)/release/lab --peers tests/interop/bin $(LAB)
	$(TARGET)/release/lab --peers tests/interop/bin --traces

bench: ## Measure; the figures are ratios within one run.
	@.ci/require rust cc
	$(CARGO) bench --locked

bench-twin: ## Measure the proxy beside the twin of the Go proxy, in one run.
	@.ci/require rust cc go namespaces
	$(MAKE) -C tests/interop build
	$(CARGO) bench --locked --bench twin

docs: ## Build the book and the API documentation into one site, target/site.
	@.ci/require rust cc
	$(CARGO) install --quiet --locked --root $(TARGET)/tools mdbook@$(MDBOOK)
	$(CARGO) doc --locked --no-deps --lib
	@.ci/docs $(TARGET)

public-api: ## Write the public API of the library to docs/public-api.txt, which CI compares.
	@.ci/require rust cc
	@.ci/public-api --write

pictures: ## Draw the README's picture of the lab from a run.
	@.ci/require rust cc namespaces
	$(CARGO) build --release --locked --bins
	$(TARGET)/release/lab >$(TARGET)/lab.txt
	$(TARGET)/release/lab svg <$(TARGET)/lab.txt >docs/pictures/lab.svg

# The time of the files is that of the revision.
image: ## Build the container image. IMAGE, PLATFORM, RUST_IMAGE and RUNTIME_IMAGE choose names.
	@.ci/require docker
	DOCKER_BUILDKIT=1 docker build $(if $(RUST_IMAGE),--build-arg RUST_IMAGE=$(RUST_IMAGE)) \
	  $(if $(RUNTIME_IMAGE),--build-arg RUNTIME_IMAGE=$(RUNTIME_IMAGE)) \
	  $(if $(PLATFORM),--platform $(PLATFORM)) $(DOCKER_BUILD) \
	  --build-arg SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct) \
	  --build-arg REVISION=$(shell git rev-parse HEAD) \
	  --build-arg VERSION=$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1) \
	  --tag $(or $(IMAGE),meridio-proxy:dev) .

# It also has the crates of the test kit: Cargo resolves features for the workspace as a whole.
sbom: ## Write the software bill of materials of the proxy, target/meridio-proxy.cdx.json.
	@.ci/require rust cc
	$(CARGO) install --quiet --locked --root $(TARGET)/tools cargo-cyclonedx@$(CYCLONEDX)
	PATH=$(abspath $(TARGET)/tools/bin):$$PATH $(CARGO) cyclonedx --format json --all --no-build-deps \
	  --spec-version 1.5 --override-filename meridio-proxy.cdx
	rm lab/meridio-proxy.cdx.json
	mv meridio-proxy.cdx.json $(TARGET)
