#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes the Go stubs of Meridio's IPAM and NSP from proto/meridio. Needs protoc (Debian: protobuf-compiler) and Go.
set -eu
cd "$(dirname "$0")"
module=meridio-proxy/tests/interop/internal/meridio
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN=$plugins GOFLAGS= go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6
GOBIN=$plugins GOFLAGS= go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
packages="Mmeridio/model.proto=$module/nsp,Mmeridio/configurationmanager.proto=$module/nsp,Mmeridio/ipam.proto=$module/ipam"
PATH=$plugins:$PATH protoc -I ../../../../proto \
  --go_out=. --go_opt=module=$module,"$packages" \
  --go-grpc_out=. --go-grpc_opt=module=$module,"$packages" \
  meridio/model.proto meridio/configurationmanager.proto meridio/ipam.proto
sed -i '1i // SPDX-License-Identifier: Apache-2.0\n' ipam/*.go nsp/*.go
