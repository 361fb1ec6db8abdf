// SPDX-License-Identifier: Apache-2.0

// Command registry serves the sdk's registry in memory, with its policies on.
package main

import (
	"context"
	"flag"
	"time"

	"github.com/networkservicemesh/sdk/pkg/registry/chains/memory"
	"github.com/networkservicemesh/sdk/pkg/registry/common/authorize"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

func main() {
	listen := flag.String("listen", "tcp://127.0.0.1:0", "address to listen on")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "lifetime of tokens")
	expiration := flag.Duration("expiration", time.Minute, "longest registration of an endpoint")

	peer.Main(func(ctx context.Context, out *report.Writer) error {
		self, err := peer.New(ctx, *lifetime)
		if err != nil {
			return err
		}
		defer self.Close()

		servers := authorize.WithPolicies(peer.RegistryServerPolicies...)
		clients := authorize.WithPolicies(peer.RegistryClientPolicies...)
		registry := memory.NewServer(ctx, self.Tokens,
			memory.WithDefaultExpiration(*expiration),
			memory.WithDialOptions(self.DialOptions()...),
			memory.WithAuthorizeNSRegistryServer(authorize.NewNetworkServiceRegistryServer(servers)),
			memory.WithAuthorizeNSERegistryServer(authorize.NewNetworkServiceEndpointRegistryServer(servers)),
			memory.WithAuthorizeNSRegistryClient(authorize.NewNetworkServiceRegistryClient(clients)),
			memory.WithAuthorizeNSERegistryClient(authorize.NewNetworkServiceEndpointRegistryClient(clients)),
		)

		server := self.NewServer()
		registry.Register(server)
		_, ended, err := peer.Listen(ctx, out, *listen, server)
		if err != nil {
			return err
		}
		return peer.Wait(ctx, ended)
	})
}
