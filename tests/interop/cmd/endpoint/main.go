// SPDX-License-Identifier: Apache-2.0

// Command endpoint serves the sdk's endpoint chain with its policies on and prints what it sees.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/golang/protobuf/ptypes/empty"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/registry"
	chain "github.com/networkservicemesh/sdk/pkg/networkservice/chains/endpoint"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/authorize"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/recvfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

// requestsOnly leaves an element out of a Close. At a Close the mechanism names this endpoint's own namespace, and
// recvfd would wait for a descriptor that a caller has no reason to send.
type requestsOnly struct {
	networkservice.NetworkServiceServer
}

// Close passes on.
func (requestsOnly) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	return next.Server(ctx).Close(ctx, conn)
}

// pair gives every connection the same two addresses, and each end a route to the other; without addresses it
// changes nothing.
type pair struct {
	client, own string
}

// Request gives the addresses.
func (p pair) Request(ctx context.Context, request *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	if p.client != "" {
		request.Connection.Context = &networkservice.ConnectionContext{IpContext: &networkservice.IPContext{
			SrcIpAddrs: []string{p.client},
			DstIpAddrs: []string{p.own},
			SrcRoutes:  []*networkservice.Route{{Prefix: p.own}},
			DstRoutes:  []*networkservice.Route{{Prefix: p.client}},
		}}
	}
	return next.Server(ctx).Request(ctx, request)
}

// Close passes on.
func (p pair) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	return next.Server(ctx).Close(ctx, conn)
}

func main() {
	name := flag.String("name", "endpoint", "name in the path and in the registry")
	service := flag.String("service", "service", "network service to register")
	payload := flag.String("payload", "ETHERNET", "payload of the network service")
	listen := flag.String("listen", "", "unix:// address; default a socket in a new folder")
	manager := flag.String("connect", "", "unix:// address of the manager; empty: do not register")
	var addresses pair
	flag.StringVar(&addresses.client, "client-address", "", "address of every client, as 172.16.2.1/32; needs -address; empty: none")
	flag.StringVar(&addresses.own, "address", "", "address of this end of each link")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "lifetime of tokens")

	peer.Main(func(ctx context.Context, out *report.Writer) error {
		self, err := peer.New(ctx, *lifetime)
		if err != nil {
			return err
		}
		defer self.Close()
		out.Event("started", report.Fields{"id": self.ID, "netns": report.Inode("/proc/self/ns/net")})

		if *listen == "" {
			dir, err := os.MkdirTemp("", "endpoint")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(dir) }()
			*listen = "unix://" + filepath.Join(dir, "listen.on")
		}
		// The server outlives the signal until the registration is withdrawn.
		serving, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		server := self.NewServer()
		chain.NewServer(serving, self.Tokens,
			chain.WithName(*name),
			chain.WithAuthorizeServer(authorize.NewServer()),
			chain.WithAdditionalFunctionality(
				requestsOnly{recvfd.NewServer()},
				report.NewServer(out),
				addresses,
				mechanisms.NewServer(map[string]networkservice.NetworkServiceServer{
					kernelmech.MECHANISM: kernel.NewServer(),
				}),
				sendfd.NewServer(),
			),
		).Register(server)
		address, ended, err := peer.Listen(serving, out, *listen, server)
		if err != nil {
			return err
		}

		if *manager == "" {
			return peer.Wait(ctx, ended)
		}
		managerURL, err := url.Parse(*manager)
		if err != nil {
			return fmt.Errorf("-connect %q: %w", *manager, err)
		}
		registered, unregister, err := self.Register(serving, managerURL,
			&registry.NetworkService{Name: *service, Payload: *payload},
			&registry.NetworkServiceEndpoint{
				Name:                *name,
				NetworkServiceNames: []string{*service},
				Url:                 address.String(),
			})
		if err != nil {
			return err
		}
		out.Event("registered", report.Fields{
			"name":    registered.GetName(),
			"path":    registered.GetPathIds(),
			"expires": time.Until(registered.GetExpirationTime().AsTime()).Seconds(),
		})
		if err := peer.Wait(ctx, ended); err != nil {
			return err
		}
		if err := unregister(); err != nil {
			return fmt.Errorf("cannot unregister: %w", err)
		}
		out.Event("unregistered", report.Fields{})
		return nil
	})
}
