// SPDX-License-Identifier: Apache-2.0

// Command nsmgr serves the sdk's manager chain with every policy on, in front of a registry.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"time"

	"github.com/edwarnicke/genericsync"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/nsmgr"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/authorize"
	registryauthorize "github.com/networkservicemesh/sdk/pkg/registry/common/authorize"
	authmonitor "github.com/networkservicemesh/sdk/pkg/tools/monitorconnection/authorize"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

func main() {
	name := flag.String("name", "nsmgr", "name in the path")
	listen := flag.String("listen", "", "unix:// address for the pods of this node")
	public := flag.String("public", "", "tcp:// address for other nodes; it is what the registry knows of us")
	registry := flag.String("registry", "", "address of the registry")
	dialTimeout := flag.Duration("dial-timeout", 750*time.Millisecond, "time to reach the next hop")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "lifetime of tokens")

	peer.Main(func(ctx context.Context, out *report.Writer) error {
		registryURL, err := url.Parse(*registry)
		if err != nil || registryURL.Scheme == "" {
			return fmt.Errorf("-registry %q: want an address as tcp://127.0.0.1:5002", *registry)
		}
		if *listen == "" || *public == "" {
			return fmt.Errorf("-listen and -public are both needed")
		}
		self, err := peer.New(ctx, *lifetime)
		if err != nil {
			return err
		}
		defer self.Close()

		var connections genericsync.Map[spiffeid.ID, *genericsync.Map[string, struct{}]]
		servers := registryauthorize.WithPolicies(peer.RegistryServerPolicies...)
		clients := registryauthorize.WithPolicies(peer.RegistryClientPolicies...)
		manager := nsmgr.NewServer(ctx, self.Tokens,
			nsmgr.WithName(*name),
			nsmgr.WithURL(*public),
			nsmgr.WithRegistry(registryURL),
			nsmgr.WithDialTimeout(*dialTimeout),
			nsmgr.WithDialOptions(self.DialOptions()...),
			nsmgr.WithAuthorizeServer(authorize.NewServer(authorize.WithSpiffeIDConnectionMap(&connections))),
			nsmgr.WithAuthorizeMonitorConnectionServer(
				authmonitor.NewMonitorConnectionServer(authmonitor.WithSpiffeIDConnectionMap(&connections))),
			nsmgr.WithAuthorizeNSRegistryServer(registryauthorize.NewNetworkServiceRegistryServer(servers)),
			nsmgr.WithAuthorizeNSERegistryServer(registryauthorize.NewNetworkServiceEndpointRegistryServer(servers)),
			nsmgr.WithAuthorizeNSRegistryClient(registryauthorize.NewNetworkServiceRegistryClient(clients)),
			nsmgr.WithAuthorizeNSERegistryClient(registryauthorize.NewNetworkServiceEndpointRegistryClient(clients)),
		)

		server := self.NewServer()
		manager.Register(server)
		_, publicEnded, err := peer.Listen(ctx, out, *public, server)
		if err != nil {
			return err
		}
		_, ended, err := peer.Listen(ctx, out, *listen, server)
		if err != nil {
			return err
		}
		select {
		case err := <-publicEnded:
			return fmt.Errorf("the server on %s ended: %w", *public, err)
		default:
		}
		return peer.Wait(ctx, ended)
	})
}
