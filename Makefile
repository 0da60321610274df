SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-ready
READY := $(VENV)/.ready
# The locks are complete, so pip need not resolve anything.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
IMAGE ?= moorage:$(VERSION)

.PHONY: help
help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp is newer than its locks when the environment matches them.
$(RUN_READY): requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked environment into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(READY): $(RUN_READY) requirements-dev.lock
	@echo "installing what tests and checks need ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: run
run: $(RUN_READY) ## start the service on http://127.0.0.1:8080 (SQLite and local disk in ./data)
	@exec $(BIN)/moorage serve

.PHONY: test
test: $(READY) ## run every test (loopback only); T=tests/core runs one part
	$(BIN)/pytest -n 2 $(T)

.PHONY: test-go-scripts
test-go-scripts: $(READY) ## run Go's own script tests with Moorage in between (takes 10 minutes and more)
	$(BIN)/python -m tests.goscripts

.PHONY: test-real
test-real: $(READY) ## compare 300 real modules and 20 programs with direct (needs a Go module proxy, 10 GB)
	$(BIN)/python -m tests.real

.PHONY: test-git
test-git: $(READY) ## compare modules from git with GOPROXY=direct (3 minutes; needs git, over ssh also sshd)
	$(BIN)/python -m tests.gitparity
	$(BIN)/python -m tests.gitparity --ssh team/plain team/dirs team/dirs/sub team/majorbranch/v2 \
		team/attributes team/signed team/sha256

.PHONY: test-replicas
test-replicas: $(READY) ## build through two replicas while replicas, PostgreSQL and S3 fail (needs postgresql, haproxy)
	$(BIN)/python -m tests.replicas

.PHONY: test-s3
test-s3: $(READY) ## what is stored in S3, against Ceph's RADOS Gateway (needs radosgw ceph-mon ceph-osd)
	MOORAGE_TEST_S3=rgw $(BIN)/pytest -q -rs tests/storage/test_objects.py tests/storage/test_s3.py \
		tests/services/tenantlog/test_head.py tests/services/test_storemark.py \
		tests/web/test_s3.py tests/web/test_store_away.py

.PHONY: test-containers
test-containers: $(READY) ## pull the real go1.23.1 by skopeo and buildah (needs root and 1 GB); CONFORMANCE=PROGRAM
	$(BIN)/python -m tests.containers $(if $(CONFORMANCE),--conformance $(CONFORMANCE))

.PHONY: test-own-toolchain
test-own-toolchain: $(READY) ## build a Go with a name of its own, publish it, switch to it (needs gpg, 2 GB, minutes)
	$(BIN)/python -m tests.owntoolchain

.PHONY: check
check: $(READY) ## ruff, mypy --strict, import-linter, the chart's list of settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python charts/build.py --check

.PHONY: fmt
fmt: $(READY) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(READY) ## run the benchmarks (needs nginx and wrk)
	$(BIN)/python -m bench

.PHONY: collection
collection: $(READY) ## build the Ansible collection into dist/
	$(BIN)/python ansible/build.py

.PHONY: image
image: ## build the container image, with docker, podman or buildah, whichever works here
	@builder="$(BUILDER)"; \
	test -n "$$builder" || for one in docker podman buildah; do \
	  $$one info >/dev/null 2>&1 && builder=$$one && break; done; \
	test -n "$$builder" || { echo "docker, podman or buildah is needed, and none works here" >&2; exit 1; }; \
	case "$$builder" in *docker*) format= ;; *) format="--format docker" ;; esac; \
	set -x; $$builder build $$format --tag $(IMAGE) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) $(BUILD_FLAGS) .

.PHONY: test-image
test-image: $(READY) ## build the image for real, serve a real archive from it (needs root, buildah, mmdebstrap)
	$(BIN)/python -m tests.image

.PHONY: sbom
sbom: $(READY) ## list every locked package of the release, as CycloneDX, in dist/
	@mkdir -p dist
	$(BIN)/python -W ignore -m cyclonedx_py requirements requirements.lock \
	  --pyproject pyproject.toml --output-reproducible -o dist/moorage-$(VERSION).cdx.json

.PHONY: chart
chart: $(READY) ## pack the Helm chart into dist/
	$(BIN)/python charts/build.py

.PHONY: lock
lock: $(READY) ## resolve the locks anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --extra postgres --extra s3 --extra otel pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url requirements-build.in -o requirements-build.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --all-extras requirements-build.in pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --constraint requirements-dev.lock requirements-sbom.in -o requirements-sbom.lock
