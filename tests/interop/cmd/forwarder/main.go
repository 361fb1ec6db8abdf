// SPDX-License-Identifier: Apache-2.0

// Command forwarder passes KERNEL connections on to their endpoint without making an interface.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/golang/protobuf/ptypes/empty"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/client"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/endpoint"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/authorize"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/connect"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/discover"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/filtermechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/recvfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanismtranslation"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/null"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/roundrobin"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"
	registryclient "github.com/networkservicemesh/sdk/pkg/registry/chains/client"
	registryrecvfd "github.com/networkservicemesh/sdk/pkg/registry/common/recvfd"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

// forwarderService is the network service by which a manager finds its forwarders.
const forwarderService = "forwarder"

func main() {
	name := flag.String("name", "forwarder", "name in the path and in the registry")
	listen := flag.String("listen", "", "unix:// address; default a socket in a new folder")
	manager := flag.String("connect", "", "unix:// address of the manager")
	dialTimeout := flag.Duration("dial-timeout", 750*time.Millisecond, "time to reach the endpoint")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "lifetime of tokens")

	peer.Main(func(ctx context.Context, out *report.Writer) error {
		managerURL, err := url.Parse(*manager)
		if err != nil || managerURL.Scheme == "" {
			return fmt.Errorf("-connect %q: want an address as unix:///path", *manager)
		}
		self, err := peer.New(ctx, *lifetime)
		if err != nil {
			return err
		}
		defer self.Close()
		if *listen == "" {
			dir, err := os.MkdirTemp("", "forwarder")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(dir) }()
			*listen = "unix://" + filepath.Join(dir, "listen.on")
		}

		serving, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		server := self.NewServer()
		newChain(serving, self, *name, managerURL, *dialTimeout).Register(server)
		address, ended, err := peer.Listen(serving, out, *listen, server)
		if err != nil {
			return err
		}
		_, unregister, err := self.Register(serving, managerURL, nil, &registry.NetworkServiceEndpoint{
			Name:                *name,
			NetworkServiceNames: []string{forwarderService},
			NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{
				forwarderService: {Labels: map[string]string{"p2p": "true"}},
			},
			Url: address.String(),
		})
		if err != nil {
			return err
		}
		out.Event("registered", report.Fields{"name": *name})
		if err := peer.Wait(ctx, ended); err != nil {
			return err
		}
		if err := unregister(); err != nil {
			return fmt.Errorf("cannot unregister: %w", err)
		}
		return nil
	})
}

// newChain finds the endpoint through the manager and calls it, as a kernel forwarder does; where that one
// would make a link there is nothing.
func newChain(ctx context.Context, self *peer.Peer, name string, manager *url.URL, dialTimeout time.Duration) endpoint.Endpoint {
	services := registryclient.NewNetworkServiceRegistryClient(ctx,
		registryclient.WithClientURL(manager),
		registryclient.WithDialOptions(self.DialOptions()...),
	)
	endpoints := registryclient.NewNetworkServiceEndpointRegistryClient(ctx,
		registryclient.WithClientURL(manager),
		registryclient.WithDialOptions(self.DialOptions()...),
		registryclient.WithNSEAdditionalFunctionality(registryrecvfd.NewNetworkServiceEndpointRegistryClient()),
	)
	return endpoint.NewServer(ctx, self.Tokens,
		endpoint.WithName(name),
		endpoint.WithAuthorizeServer(authorize.NewServer()),
		endpoint.WithAdditionalFunctionality(
			recvfd.NewServer(),
			sendfd.NewServer(),
			discover.NewServer(services, endpoints),
			roundrobin.NewServer(),
			mechanisms.NewServer(map[string]networkservice.NetworkServiceServer{
				kernelmech.MECHANISM: null.NewServer(),
			}),
			connect.NewServer(client.NewClient(ctx,
				client.WithName(name),
				client.WithDialOptions(self.DialOptions()...),
				client.WithDialTimeout(dialTimeout),
				client.WithoutRefresh(),
				client.WithAdditionalFunctionality(
					mechanismtranslation.NewClient(),
					kernelPreference{},
					filtermechanisms.NewClient(),
					recvfd.NewClient(),
					sendfd.NewClient(),
				),
			)),
		),
	)
}

// kernelPreference offers the endpoint the KERNEL mechanism without parameters.
type kernelPreference struct{}

func (kernelPreference) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	request.MechanismPreferences = append(request.MechanismPreferences,
		&networkservice.Mechanism{Cls: cls.LOCAL, Type: kernelmech.MECHANISM})
	return next.Client(ctx).Request(ctx, request, opts...)
}

func (kernelPreference) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	return next.Client(ctx).Close(ctx, conn, opts...)
}
